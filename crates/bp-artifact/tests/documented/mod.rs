//! Compare a table of a page with the rows of a test.

use std::fs;

/// Compares the table of `docs/artifact.md` that begins with `header`; `BP_WRITE_DOCS=1` updates it.
#[track_caller]
pub(crate) fn assert_table(header: &str, table: &str, test: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/artifact.md");
    let page = fs::read_to_string(path).unwrap();
    let start = page.find(header).expect("the table exists");
    let end = start + page[start..].find("\n\n").unwrap() + 1;
    if std::env::var_os("BP_WRITE_DOCS").is_some() {
        fs::write(path, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
    } else {
        let command = format!("BP_WRITE_DOCS=1 cargo test -p bp-artifact --test {test}");
        assert_eq!(&page[start..end], table, "update it: {command}");
    }
}
