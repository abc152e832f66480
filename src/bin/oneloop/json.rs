//! JSON objects on one line, their members in the order in which people read them.

use serde_json::Value;

/// `{"name":value,...}`.
pub(crate) fn object(members: &[(&str, Value)]) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_in_order_and_every_character_survives() {
        let text = object(&[("z", "\"\u{1}\n".into()), ("a", 1.into()), ("n", Value::Null)]);
        assert_eq!(text, r#"{"z":"\"\u0001\n","a":1,"n":null}"#);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["z"], "\"\u{1}\n");
    }
}
