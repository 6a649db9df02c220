//! Texts of errors, without the values of rows.

use std::borrow::Cow;

/// Where PostgreSQL quotes a key: `Key (adv_campaign_id, client_id)=(c-1, u-1) already exists`.
const BEFORE_VALUES: &str = ")=(";
/// What follows the values of a key, so that a value cannot end them early.
const AFTER_VALUES: [&str; 3] = [") already exists", ") is not present", ") conflicts with"];

/// The text of an error without the values of a key that a database quoted: they name a client. `dinnerbell lane list` shows them to those who may
/// read them.
pub fn redact(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find(BEFORE_VALUES) else { return Cow::Borrowed(text) };
    let (before, values) = text.split_at(at + BEFORE_VALUES.len());
    let end = AFTER_VALUES.iter().filter_map(|after| values.rfind(after)).max();
    // Without a known end the rest may be values: it goes too.
    Cow::Owned(format!("{before}...{}", end.map_or(")", |end| &values[end..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_key_are_left_out_whatever_stands_in_them() {
        let of = |client: &str| {
            format!("duplicate key: Key (adv_campaign_id, client_id)=(c-1, {client}) already exists. [23505]")
        };
        for client in ["u-1", "u)=(1", "u) already exists, (v", ""] {
            assert_eq!(
                redact(&of(client)),
                "duplicate key: Key (adv_campaign_id, client_id)=(...) already exists. [23505]",
                "{client:?}"
            );
        }
        assert_eq!(redact("Key (client_id)=(u-1) is odd"), "Key (client_id)=(...)");
        assert_eq!(redact("connection refused"), "connection refused");
    }
}
