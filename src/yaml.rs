//! YAML to JSON values, within bounds, for the files that the field writes in YAML: CDI
//! specifications and registries.d.
//!
//! Anchors and aliases are refused: no such file needs them, and they let a small file stand for one
//! that fills the memory.

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// How deep lists and maps may be nested; a specification needs six levels.
const MAX_DEPTH: usize = 32;

/// A list or map that is not closed yet.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Reads one document.
///
/// # Errors
/// Says what is wrong and on which line.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let line = mark.line();
        let value = match event {
            Event::StreamEnd => return document.ok_or_else(|| "it is empty".to_owned()),
            Event::Alias(_) => return Err(format!("line {line}: aliases are not read")),
            Event::Scalar(.., anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(format!("line {line}: anchors are not read"));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_DEPTH => {
                return Err(format!("line {line}: nested deeper than {MAX_DEPTH}"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::Scalar(text, style, _, tag) => {
                let plain = style == TScalarStyle::Plain && tag.is_none();
                if let Some(Open::Map(_, key @ None)) = open.last_mut() {
                    *key = Some(text);
                    continue;
                }
                if plain {
                    scalar(text)
                } else {
                    Value::String(text)
                }
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err(format!("line {line}: something ends that did not begin")),
            },
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {
                continue;
            }
        };
        match open.last_mut() {
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => {
                let key = key
                    .take()
                    .ok_or_else(|| format!("line {line}: a key is not a text"))?;
                if map.insert(key.clone(), value).is_some() {
                    return Err(format!("line {line}: `{key}` is there twice"));
                }
            }
            None if document.is_some() => {
                return Err(format!("line {line}: a second document begins"));
            }
            None => document = Some(value),
        }
    }
}

/// What a text without quotes means (YAML's core schema, and octal numbers as in YAML 1.1, which
/// is how modes of device nodes are written).
fn scalar(text: String) -> Value {
    let octal = |digits: &str| i64::from_str_radix(digits, 8).ok();
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = match text.as_str() {
        text if text.starts_with("0o") => octal(&text[2..]),
        text if text.starts_with("0x") => i64::from_str_radix(&text[2..], 16).ok(),
        text if text.starts_with('0') && text.len() > 1 => octal(&text[1..]),
        text if text.starts_with('+') => None,
        text => text.parse().ok(),
    };
    match number {
        Some(number) => Value::Number(Number::from(number)),
        None => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_specification_reads_as_its_json() {
        let text = "---\n# made by a tool\ncdiVersion: 0.6.0\nkind: \"v.com/c\"\ndevices:\n- name: \"0\"\n  \
                    containerEdits:\n    deviceNodes:\n    - {path: /dev/x, major: 1, fileMode: 0660}\n    \
                    env: [A=1, 'B=true']\nempty:\nyes: true\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({"cdiVersion": "0.6.0", "kind": "v.com/c", "empty": null, "yes": true, "devices": [
                {"name": "0", "containerEdits": {
                    "deviceNodes": [{"path": "/dev/x", "major": 1, "fileMode": 0o660}],
                    "env": ["A=1", "B=true"]}}]})
        );
    }

    #[test]
    fn what_could_hurt_or_is_no_yaml_is_refused_with_its_line() {
        let (deep, deeper) = ("[".repeat(100), "[".repeat(100_000));
        let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n";
        for (text, want) in [
            ("", "empty"),
            (bomb, "line 1: anchors"),
            ("a: *a\n", "anchor"),
            (deep.as_str(), "line 1: nested deeper"),
            (deeper.as_str(), "line 1"),
            ("a: 1\na: 2\n", "line 2: `a` is there twice"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("? [a]\n: b\n", "not a text"),
            ("a: [1\n", "line"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(want), "{error}, not {want}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z&*:{}\\[\\]|>#!'\"\n\t -]{0,80}") {
            let _ = parse(&text);
        }
    }
}
