//! A kind's reference in Markdown: a table of all that its CRD's schema says.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::Schema;
use serde_json::{Map, Value};

/// The page of a kind. `meanings` are schemas of enums by the paths of their fields.
pub(crate) fn page(crd: &CustomResourceDefinition, meanings: &[(&str, Schema)]) -> String {
    let (spec, version) = (&crd.spec, &crd.spec.versions[0]);
    let short: Vec<_> = spec.names.short_names.iter().flatten().map(|name| code(name)).collect();
    let short =
        if short.is_empty() { String::new() } else { format!(", short name {}", short.join(", ")) };
    let schema = serde_json::to_value(&version.schema).expect("it is plain data");
    let schema = &schema["openAPIV3Schema"];
    let mut blocks = vec![
        "<!-- Generated from api/ by `make crds`. -->".to_owned(),
        format!("# {}", spec.names.kind),
        format!("`{}/{}`{short}. {}", spec.group, version.name, description(schema)),
    ];
    blocks.extend(rules(schema));
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        if schema.is_null() {
            continue;
        }
        blocks.push(format!("## {part}"));
        blocks.extend(rules(schema));
        let mut rows = vec![];
        fields(schema, "", &mut rows);
        if !rows.is_empty() {
            let head = "| field | type | default | bounds | what it is |\n|---|---|---|---|---|";
            blocks.push(format!("{head}\n{}", rows.join("\n")));
        }
        let of_part = meanings.iter().filter(|(path, _)| path.split('.').next() == Some(part));
        for (path, meaning) in of_part {
            blocks.push(format!("### {path}"));
            blocks.push(values(meaning.as_value()));
        }
    }
    blocks.join("\n\n") + "\n"
}

/// A row for each field in a schema, and for those in it.
fn fields(schema: &Value, path: &str, rows: &mut Vec<String>) {
    let required = |name: &str| {
        schema["required"].as_array().into_iter().flatten().any(|required| required == name)
    };
    for (name, field) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        let path = format!("{path}{name}");
        let default = match field.get("default") {
            Some(Value::String(text)) => code(text),
            Some(default) => code(&default.to_string()),
            None if required(name) => "required".into(),
            None => String::new(),
        };
        let cells =
            [code(&path), type_of(field), default, bounds(field).join("; "), description(field)];
        rows.push(format!("| {} |", cells.map(|cell| cell.replace('|', r"\|")).join(" | ")));
        fields(field, &format!("{path}."), rows);
        fields(&field["items"], &format!("{path}[]."), rows);
        fields(&field["additionalProperties"], &format!("{path}.*."), rows);
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".into();
    }
    let type_ = field["type"].as_str().unwrap_or("anything");
    if type_ == "array" {
        let keys = field["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        let keys: Vec<_> = keys.filter_map(Value::as_str).map(code).collect();
        let unique = if keys.is_empty() {
            String::new()
        } else {
            format!(", one per {}", keys.join(" and "))
        };
        return format!("list of {}{unique}", type_of(&field["items"]));
    }
    if field["additionalProperties"].is_object() {
        return format!("map of {}", type_of(&field["additionalProperties"]));
    }
    if field["x-kubernetes-preserve-unknown-fields"] == true {
        return format!("{type_} of any fields");
    }
    match field["format"].as_str() {
        Some(format) => format!("{type_} ({format})"),
        None => type_.into(),
    }
}

/// What a value has to keep to: its schema's bounds, then the words of its rules.
fn bounds(field: &Value) -> Vec<String> {
    let mut bounds: Vec<_> = [
        range(field, "minimum", "maximum", ""),
        range(field, "minLength", "maxLength", " characters"),
        range(field, "minItems", "maxItems", " items"),
        range(field, "minProperties", "maxProperties", " entries"),
    ]
    .into_iter()
    .flatten()
    .collect();
    bounds.extend(field["pattern"].as_str().map(code));
    let values: Vec<_> = field["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(code)
        .collect();
    if !values.is_empty() {
        bounds.push(values.join(", "));
    }
    bounds.extend(messages(field));
    for each in [&field["items"], &field["additionalProperties"]] {
        bounds.extend(self::each(each));
    }
    bounds
}

fn each(items: &Value) -> Vec<String> {
    if items.is_null() { vec![] } else { bounds(items) }
        .into_iter()
        .map(|bound| format!("each: {bound}"))
        .collect()
}

fn range(field: &Value, least: &str, most: &str, unit: &str) -> Option<String> {
    // Bounds of whole numbers are floats in a CRD.
    let bound = |key: &str| field[key].as_f64();
    match (bound(least), bound(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    }
}

/// What the CEL rules of a schema say to who breaks them.
fn messages(schema: &Value) -> impl Iterator<Item = String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.map(|rule| match rule["message"].as_str() {
        Some(message) => message.into(),
        None => code(rule["rule"].as_str().unwrap_or_default()),
    })
}

fn rules(schema: &Value) -> Option<String> {
    let rules: Vec<_> = messages(schema).map(|message| format!("* {message}")).collect();
    (!rules.is_empty()).then(|| rules.join("\n"))
}

/// The values of an enum and what they mean.
fn values(schema: &Value) -> String {
    let rows = schema["oneOf"].as_array().into_iter().flatten().map(|value| {
        let name = value["const"].as_str().expect("each value has a doc comment");
        format!("\n| {} | {} |", code(name), description(value))
    });
    format!("| value | what it means |\n|---|---|{}", rows.collect::<String>())
}

/// A description in one line.
fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
