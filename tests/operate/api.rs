//! `/api/v1`: each path answers as its document says, orders are for operators alone, and what fails is a problem.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Extension;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::operate::by_hand::{ByHand, json_of};
use crate::support::Stage;
use dinnerbell::web::api::{Api, router};
use dinnerbell::web::identity::{Identity, Role};
use dinnerbell::web::site::Site;
use dinnerbell_core::telemetry::Telemetry;

/// The API, served to somebody who was let in.
struct Served {
    address: SocketAddr,
    _runtime: Runtime,
}

/// What was answered.
struct Answer {
    status: u16,
    kind: String,
    body: Value,
}

impl Served {
    fn to(by_hand: &ByHand, role: Option<Role>) -> Self {
        let path = by_hand.stage.config.write(by_hand.stage.dir.path());
        let config = dinnerbell_config::load(Some(&path), std::iter::empty()).expect("the configuration is right");
        let site = Site::new(&config, "here", Arc::new(Telemetry::new("none"))).expect("it contacts nobody");
        let api = router(Arc::new(Api::new(Arc::new(site))));
        let api = match role {
            Some(role) => api.layer(Extension(Identity { name: "olga".to_owned(), role })),
            None => api,
        };
        let runtime = Runtime::new().expect("threads are to be had");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        runtime.spawn(async move { axum::serve(listener, api).await });
        Self { address, _runtime: runtime }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
        Answer { status, kind, body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }
}

/// Something of everything.
fn with_something() -> (ByHand, i64) {
    let by_hand = ByHand::new();
    by_hand.stage.subscribers.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id) select c, 'pizzeria' from unnest(array['a', 'b', 'c', 'd']) c",
    );
    by_hand.record(1, &["a", "b"]);
    by_hand.execute(
        "update dinnerbell.campaign set first_draft_at = clock_timestamp(), last_draft_at = clock_timestamp();
         update dinnerbell.lane set halted = 'kafka-refused', halted_found = 'f', halted_remedy = 'r', halted_at = now()",
    );
    let letter = by_hand.stage.feedback.number(
        "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, key, value, header_names, header_values, reason)
         values (0, 0, 1, 'k', '\\xff', array['h'], array['1'::bytea], 'it is wrong') returning id",
    );
    (by_hand, letter)
}

/// How each documented path is asked: with which ids, query and body.
fn examples(letter: i64) -> BTreeMap<(&'static str, &'static str), (String, Option<Value>)> {
    let get = |path: &'static str, asked: &str| (("get", path), (asked.to_owned(), None));
    let post = |path: &'static str, body: Value| (("post", path), (path.replace("{id}", "offer"), Some(body)));
    BTreeMap::from([
        get("/now", "/now"),
        get("/campaigns", "/campaigns?state=active,complete&search=OFF&limit=1"),
        get("/campaigns/{id}", "/campaigns/offer"),
        get("/campaigns/{id}/told", "/campaigns/offer/told?client=c"),
        get("/campaigns/{id}/not-told", "/campaigns/offer/not-told?limit=1"),
        get("/clients/{id}", "/clients/a?last=10"),
        get("/lanes", "/lanes"),
        get("/dead-letters", "/dead-letters?lane=0&reason_field=record&not_replayed=true"),
        (("get", "/dead-letters/{id}"), (format!("/dead-letters/{letter}"), None)),
        get("/audit", "/audit?since=2020-01-01T00:00:00Z"),
        get("/doctor", "/doctor"),
        post("/pause", json!({ "reason": "wrong price" })),
        post("/resume", json!({})),
        post("/campaigns/{id}/cancel", json!({ "timeout": 0 })),
        post("/dead-letters/replay", json!({ "ids": [letter], "dry_run": true })),
    ])
}

/// The properties of a schema, its parts included, and those that must be there.
fn fields<'a>(document: &'a Value, schema: &'a Value) -> (BTreeMap<&'a str, &'a Value>, Vec<&'a str>) {
    let schema = resolved(document, schema);
    let mut fields: BTreeMap<&str, &Value> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect();
    let mut required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, also) = self::fields(document, part);
        fields.extend(more);
        required.extend(also);
    }
    (fields, required)
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} is not there")),
        None => schema,
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document has a type {other:?}"),
    }
}

/// What differs between a value and its schema.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| differences(document, choice, value, at).is_empty();
        return if choices.iter().any(|choice| fits(&choice)) {
            Vec::new()
        } else {
            vec![format!("{at}: {value} is none of these")]
        };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind, value)) {
        return vec![format!("{at}: {value} is no {kinds:?}")];
    }
    let mut found = Vec::new();
    if let Some(items) = value.as_array() {
        found.extend(items.iter().flat_map(|item| differences(document, &schema["items"], item, &format!("{at}[]"))));
    }
    let (fields, required) = fields(document, schema);
    if let Some(object) = value.as_object().filter(|_| !fields.is_empty()) {
        found.extend(
            required.iter().filter(|name| !object.contains_key(**name)).map(|name| format!("{at}.{name} is missing")),
        );
        for (name, value) in object {
            match fields.get(name.as_str()) {
                Some(schema) => found.extend(differences(document, schema, value, &format!("{at}.{name}"))),
                None => found.push(format!("{at}.{name} is not documented")),
            }
        }
    }
    found
}

#[test]
fn each_documented_path_answers_as_documented() {
    let (by_hand, letter) = with_something();
    let served = Served::to(&by_hand, Some(Role::Operator));
    let document = served.get("/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let examples = examples(letter);
    let documented = document["paths"].as_object().expect("paths");
    let documented = documented.iter().flat_map(|(path, methods)| {
        methods
            .as_object()
            .expect("methods")
            .iter()
            .map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    // Orders first: then there is something in the audit.
    let mut documented: Vec<(&str, &str, &Value)> = documented.collect();
    documented.sort_by_key(|(method, path, _)| (*method != "post", *path));
    assert_eq!(documented.len(), examples.len());
    for (method, path, operation) in documented {
        let (asked, body) = examples.get(&(method, path)).unwrap_or_else(|| panic!("{method} {path} has no example"));
        let answer = served.ask(&method.to_uppercase(), asked, body.as_ref());
        assert_eq!(answer.status, 200, "{method} {asked}: {}", answer.body);
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} has no schema");
        let differences = differences(&document, schema, &answer.body, "");
        assert!(differences.is_empty(), "{method} {asked}: {differences:#?} in {:#}", answer.body);
    }
    let kept = served.get("/audit");
    let what: Vec<&str> =
        kept["orders"].as_array().expect("a list").iter().filter_map(|order| order["what"].as_str()).collect();
    assert_eq!(what, ["resumed", "paused", "cancelled"], "{kept}");
    assert_eq!((&kept["orders"][0]["who"], &kept["orders"][0]["origin"]), (&json!("olga"), &json!("api")));
}

#[test]
fn a_running_instance_serves_it_and_says_what_is_wrong_as_a_problem() {
    let stage = Stage::new();
    stage.migrate();
    let service = stage.start();
    let lanes = service.get("/api/v1/lanes");
    assert!(lanes.starts_with("HTTP/1.1 200") && lanes.contains(r#"{"lanes":["#), "{lanes}");
    let nowhere = service.get("/api/v1/nowhere");
    assert!(nowhere.starts_with("HTTP/1.1 404") && nowhere.contains("application/problem+json"), "{nowhere}");
    assert!(service.get("/api/v1/openapi.json").contains("3.1."));
    service.stop();
}

#[test]
fn numbers_are_those_of_the_commands() {
    let (by_hand, letter) = with_something();
    let served = Served::to(&by_hand, Some(Role::Viewer));
    by_hand.execute("update dinnerbell.campaign set first_draft_at = null");
    assert_eq!(served.get("/campaigns")["campaigns"], json_of(&by_hand.stage, &["campaign", "list"]).1);
    assert_eq!(served.get("/campaigns/offer"), json_of(&by_hand.stage, &["campaign", "show", "offer"]).1);
    assert_eq!(
        served.get("/campaigns/offer/not-told")["clients"],
        json_of(&by_hand.stage, &["campaign", "not-told", "offer"]).1
    );
    assert_eq!(served.get("/clients/a"), json_of(&by_hand.stage, &["client", "show", "a"]).1);
    assert_eq!(served.get("/lanes")["lanes"], json_of(&by_hand.stage, &["lane", "list"]).1);
    let shown = json_of(&by_hand.stage, &["dead-letter", "show", &letter.to_string()]).1;
    assert_eq!(served.get(&format!("/dead-letters/{letter}")), shown);
    let first = served.get("/campaigns/offer/not-told?limit=1");
    assert_eq!((&first["clients"][0]["client_id"], &first["next"]), (&json!("c"), &json!("c")), "{first}");
    let second = served.get("/campaigns/offer/not-told?limit=1&after=c");
    assert_eq!(
        (&second["clients"][0]["client_id"], second["clients"].as_array().map(Vec::len)),
        (&json!("d"), Some(1)),
        "{second}"
    );
}

#[test]
fn a_viewer_reads_and_every_order_of_one_is_refused_and_kept() {
    let (by_hand, letter) = with_something();
    let served = Served::to(&by_hand, Some(Role::Viewer));
    let orders = examples(letter).into_iter().filter(|((method, _), _)| *method == "post");
    let mut refused = 0;
    for (_, (path, body)) in orders {
        let answer = served.ask("POST", &path, body.as_ref());
        assert_eq!((answer.status, answer.kind.as_str()), (403, "application/problem+json"), "{path}: {}", answer.body);
        refused += 1;
    }
    let kept = served.get("/audit");
    let kept = kept["orders"].as_array().expect("a list");
    assert_eq!(kept.len(), refused);
    assert!(kept.iter().all(|order| order["what"] == "refused" && order["who"] == "olga"), "{kept:?}");
    assert_eq!(by_hand.stage.feedback.number("select count(*) from dinnerbell.service where paused_at is not null"), 0);
    let nobody = Served::to(&by_hand, None);
    assert_eq!(nobody.ask("POST", "/pause", Some(&json!({}))).status, 401, "nobody knows who asks");
}

#[test]
fn what_fails_is_a_problem_that_says_what_would_be_right() {
    let (by_hand, _) = with_something();
    let served = Served::to(&by_hand, Some(Role::Operator));
    for (method, path, status, words) in [
        ("GET", "/campaigns/nothing", 404, "there is no campaign nothing"),
        ("GET", "/campaigns/nothing/not-told", 404, "there is no campaign nothing"),
        ("GET", "/campaigns/offer/told", 400, "client"),
        ("GET", "/campaigns?since=yesterday", 400, "since must be an RFC 3339 time or epoch seconds"),
        ("GET", "/campaigns?sinse=1", 400, "sinse"),
        ("GET", "/campaigns?state=asleep", 400, "there is no state asleep"),
        ("GET", "/campaigns?limit=0", 400, "limit must be from 1 to 1000"),
        ("GET", "/campaigns?after=nothing", 400, "there is no campaign nothing"),
        ("GET", "/clients/a?after=nothing", 400, "there is no campaign nothing"),
        ("GET", "/dead-letters/x", 400, ""),
        ("GET", "/dead-letters/4711", 404, "there is no dead letter 4711"),
        ("GET", "/dead-letters?reason_field=colour", 400, "there is no field colour"),
        ("GET", "/nowhere", 404, "openapi.json"),
        ("POST", "/lanes", 405, "openapi.json"),
        ("POST", "/campaigns/nothing/cancel", 404, "nothing was cancelled"),
        ("POST", "/dead-letters/replay", 400, "send ids"),
    ] {
        let answer = served.ask(method, path, None);
        assert_eq!(
            (answer.status, answer.kind.as_str()),
            (status, "application/problem+json"),
            "{path}: {}",
            answer.body
        );
        assert_eq!(
            (&answer.body["status"], &answer.body["type"]),
            (&json!(status), &json!("about:blank")),
            "{}",
            answer.body
        );
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{path}: {}", answer.body);
    }
    let broken = served.ask("POST", "/pause", Some(&json!({ "raeson": "x" })));
    assert!(broken.status == 400 && broken.body["detail"].as_str().is_some_and(|detail| detail.contains("raeson")));
    let text = served.send("POST /pause HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(text.status, 415, "no form of another page can send JSON");
}
