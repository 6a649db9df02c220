//! JSON against docs/commands.md: the page is the contract, so it is what the output is compared with.

use std::collections::BTreeMap;

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/commands.md");

/// Every field of the object is in a table of these sections of the page, with a value of its type, and none of theirs is missing. `a.b` is a field
/// in a field, `a[].b` one in each of a list.
#[track_caller]
pub fn assert_documented(object: &Value, sections: &[&str]) {
    let mut fields = BTreeMap::new();
    sections.iter().for_each(|section| fields.extend(documented(section)));
    assert!(!fields.is_empty(), "{sections:?} have no table of fields");
    compare("", object, &fields);
}

#[track_caller]
fn compare(prefix: &str, object: &Value, fields: &BTreeMap<String, String>) {
    let found = object.as_object().unwrap_or_else(|| panic!("{prefix}{object} is no object"));
    for (name, value) in found {
        let path = format!("{prefix}{name}");
        let types = fields.get(&path).unwrap_or_else(|| panic!("{path} is not documented"));
        assert!(is_of(value, types), "{path} is documented as {types}, and is {value}");
        match value {
            Value::Object(_) => compare(&format!("{path}."), value, fields),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                items.iter().for_each(|item| compare(&format!("{path}[]."), item, fields));
            }
            _ => {}
        }
    }
    let of_this = fields.keys().filter_map(|path| path.strip_prefix(prefix)).filter(|name| !name.contains('.'));
    for name in of_this {
        assert!(found.contains_key(name), "{prefix}{name} is documented and missing: {object}");
    }
}

fn is_of(value: &Value, types: &str) -> bool {
    types.split(" or ").any(|one| match one {
        "text" => value.is_string(),
        "time" => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "list" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("the page has a type {other:?} that this test does not know"),
    })
}

/// The fields of a section with their types; several may stand in one row.
fn documented(section: &str) -> BTreeMap<String, String> {
    let lines = PAGE.lines().skip_while(|line| !is_heading_of(line, section)).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let mut fields = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        for name in cells[0].split(", ") {
            fields.insert(name.trim_matches('`').to_owned(), cells[1].to_owned());
        }
    }
    fields
}

fn is_heading_of(line: &str, section: &str) -> bool {
    line.strip_prefix("## `")
        .and_then(|rest| rest.strip_prefix(section))
        .is_some_and(|rest| rest.starts_with(['`', ' ']))
}
