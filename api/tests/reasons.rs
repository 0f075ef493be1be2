//! Every reason and every error code has a line in docs/reasons.md.

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{TOP}/{path}")).expect("it is in the repository")
}

/// What a block of a file holds, from its first line to the brace that ends it.
fn block<'a>(text: &'a str, first: &str) -> &'a str {
    let (_, from) = text.split_once(first).expect("the block is there");
    from.split_once("\n}").map_or(from, |(block, _)| block)
}

/// The constants of the module `reason`, and what may end a sandbox.
fn reasons() -> Vec<String> {
    let text = read("api/src/status.rs");
    let constants = block(&text, "pub mod reason {").lines();
    let constants =
        constants.filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix("\";"));
    let ends = block(&text, "pub enum TerminationReason {").lines();
    let ends = ends.filter_map(|line| line.trim().strip_suffix(','));
    constants.chain(ends).map(str::to_owned).collect()
}

/// The codes of a file: what has quotes around it and consists of capitals.
fn codes(path: &str) -> Vec<String> {
    let is_code = |word: &&str| {
        word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    read(path).split('"').filter(is_code).map(str::to_owned).collect()
}

#[test]
fn every_reason_and_code_is_explained() {
    let page = read("docs/reasons.md");
    let mut missing = Vec::new();
    // So many at least, or they are no longer found.
    for (from, least, found) in [
        ("api/src/status.rs", 40, reasons()),
        ("service/src/error.rs", 10, codes("service/src/error.rs")),
        ("wire/src/code.rs", 20, codes("wire/src/code.rs")),
        ("mcp-frontend/src/outcome.rs", 1, codes("mcp-frontend/src/outcome.rs")),
    ] {
        assert!(found.len() >= least, "only {found:?} were found in {from}");
        let has_row = |word: &String| page.contains(&format!("\n| `{word}` |"));
        missing.extend(found.into_iter().filter(|word| !has_row(word)));
    }
    assert!(missing.is_empty(), "docs/reasons.md says nothing of {missing:?}");
}
