//! Links are relative to the page that they stand on: so they lead right under whatever path a proxy shows the page.

/// Where programs ask.
pub const API: &str = "/api/v1";

/// The way from a page to the first page, as `../`; empty where it stands beside it.
pub fn root(path: &str) -> String {
    "../".repeat(path.matches('/').count().saturating_sub(1))
}

/// Text as a part of a path or of a query: everything but letters, digits and `-_~` is encoded, dots too, since `..` is a way up.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(byte.into()),
            b'.' if text.bytes().any(|other| other != b'.') => encoded.push('.'),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_has_a_step_for_each_folder() {
        let ways = ["/", "/campaigns", "/campaigns/a%2Fb", "/campaigns/a/not-told.csv"].map(root);
        assert_eq!(ways, ["", "", "../", "../../"]);
    }

    #[test]
    fn what_means_something_in_an_address_is_encoded() {
        assert_eq!(encoded("a/b?c#d e&f=é.x"), "a%2Fb%3Fc%23d%20e%26f%3D%C3%A9.x");
        assert_eq!([encoded(".."), encoded("a..")], ["%2E%2E", "a.."]);
    }
}
