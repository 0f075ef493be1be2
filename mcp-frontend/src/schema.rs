//! Schemas as clients like them: what schemars says, less what some of them stumble over.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// A tool with tidy schemas.
pub(crate) fn tidy(mut tool: Tool) -> Tool {
    tool.input_schema = Arc::new(tidy_object(&tool.input_schema));
    tool.output_schema = tool.output_schema.map(|schema| Arc::new(wordless(tidy_object(&schema))));
    tool
}

fn tidy_object(schema: &JsonObject) -> JsonObject {
    let mut value = Value::Object(schema.clone());
    tidy_value(&mut value);
    let Value::Object(mut object) = value else { unreachable!("an object stays one") };
    // About fifteen tokens in every schema, and the names of our types tell nobody anything.
    object.remove("$schema");
    object.remove("title");
    object
}

/// What a tool answers, by names and types alone. A model that reads the answer pays for every
/// word about it in every conversation; people read them in `outputs.rs`.
fn wordless(mut schema: JsonObject) -> JsonObject {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(object) => {
                // Words, and not a property of that name.
                if object.get("description").is_some_and(Value::is_string) {
                    object.remove("description");
                }
                object.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    schema.remove("description");
    schema.values_mut().for_each(strip);
    schema
}

/// What an argument is anyway if it is left out.
fn says_nothing(default: &Value) -> bool {
    [Value::Null, false.into(), "".into(), json!({})].contains(default)
}

/// Optional means absent, never null (`["string", "null"]` is a warning in strict clients), and
/// `uint32` is no format JSON Schema knows.
fn tidy_value(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy_value),
        Value::Object(object) => {
            // Unsigned, as every number here.
            if object.get("minimum") == Some(&Value::from(0)) {
                object.remove("minimum");
            }
            if object.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                object.remove("format");
            }
            if object.get("default").is_some_and(says_nothing) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
                forms.retain(|form| form.get("type") != Some(&Value::from("null")));
                if let [Value::Object(only)] = &forms[..] {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(tidy_value);
        }
        _ => {}
    }
}
