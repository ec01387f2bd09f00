//! JSON as documents of trust must be read: what is not understood, or is written twice, is an error,
//! because the other reading may be the unsafe one (serde's own maps let the last one win).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses a document in which no object has a key twice.
///
/// # Errors
/// Says what is wrong and where, in words.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|error| error.to_string())
}

/// An object whose fields are taken one by one; what is left at the end is unknown.
#[derive(Debug)]
pub struct Fields {
    /// The object, as errors name it.
    what: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// The fields of an object; `what` names it in errors.
    ///
    /// # Errors
    /// When the value is not an object.
    pub fn of(value: Value, what: impl Into<String>) -> Result<Fields, String> {
        let what = what.into();
        match value {
            Value::Object(fields) => Ok(Fields { what, fields }),
            other => Err(format!("{what}: an object is wanted, not {}", kind(&other))),
        }
    }

    /// The same fields under a better name, once one of them has said what the object is.
    pub fn named(self, what: impl Into<String>) -> Fields {
        Fields {
            what: what.into(),
            ..self
        }
    }

    /// A field, if it is there.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// When it is missing.
    pub fn value(&mut self, name: &str) -> Result<Value, String> {
        let found = self.take(name);
        found.ok_or_else(|| format!("{}: field {name:?} is missing", self.what))
    }

    /// A text that may be there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text_if_given(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!(
                "{}: field {name:?} must be a text, not {}",
                self.what,
                kind(&other)
            )),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn text(&mut self, name: &str) -> Result<String, String> {
        let found = self.text_if_given(name)?;
        found.ok_or_else(|| format!("{}: field {name:?} is missing", self.what))
    }

    /// A list of texts that may be there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts_if_given(&mut self, name: &str) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|_| format!("{}: field {name:?} must be a list of texts", self.what))
    }

    /// All fields that are left, with their names.
    pub fn rest(self) -> BTreeMap<String, Value> {
        self.fields.into_iter().collect()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Names a field that nobody took.
    pub fn finish(self) -> Result<(), String> {
        match self.fields.keys().next() {
            Some(name) => Err(format!("{}: unknown field {name:?}", self.what)),
            None => Ok(()),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        Seed.deserialize(deserializer).map(Strict)
    }
}

/// Reads any value; serde_json bounds the depth.
struct Seed;

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(Seed)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("{key:?} is written twice")));
            }
            let value = access.next_value_seed(Seed)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_an_error_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":[{"b":{"c":1,"c":2}}]}"#] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("is written twice"), "{error}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{} x", deep.as_str()] {
            parse(text.as_bytes()).unwrap_err();
        }
        let value = parse(br#"{"a":[1,-1,0.5,true,null,"x"],"b":{}}"#).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"a":[1,-1,0.5,true,null,"x"],"b":{}}"#
        );
    }

    #[test]
    fn fields_are_taken_and_what_is_left_is_unknown() {
        let value = parse(br#"{"type":"t","list":["a"],"more":1}"#).unwrap();
        let mut fields = Fields::of(value, "thing").unwrap();
        assert_eq!(fields.text("type").unwrap(), "t");
        assert_eq!(fields.texts_if_given("list").unwrap().unwrap(), ["a"]);
        assert_eq!(fields.texts_if_given("other").unwrap(), None);
        assert_eq!(
            fields.text("type").unwrap_err(),
            "thing: field \"type\" is missing"
        );
        assert_eq!(
            fields.finish().unwrap_err(),
            "thing: unknown field \"more\""
        );
        assert!(Fields::of(Value::Null, "thing").is_err());
    }
}
