//! Prints the items of a public API, one per line, from a rustdoc JSON document.
//!
//! Listed are all items, the traits that types implement, and types that are not `Send` or `Sync`. Not listed: blanket
//! implementations and other auto traits, which follow from the rest, and the methods of implemented traits, which the
//! trait determines.

use std::{collections::HashSet, path::PathBuf, process::ExitCode};

use public_api::Builder;

fn main() -> ExitCode {
    let Some(document) = std::env::args_os().nth(1) else {
        eprintln!("error: no rustdoc JSON document given");
        return ExitCode::from(2);
    };
    match lines(document.into()) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot read the rustdoc JSON document: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lines of the listing, sorted so that the members of a type follow it.
fn lines(document: PathBuf) -> public_api::Result<Vec<String>> {
    let api = Builder::from_rustdoc_json(document).omit_blanket_impls(true).build()?;
    let items: Vec<_> = api.items().map(|item| (item.id(), item.parent_id(), item.to_string())).collect();
    let implementations: HashSet<_> =
        items.iter().filter(|(_, _, line)| implements_a_trait(line)).map(|(id, ..)| *id).collect();
    let is_listed = |parent: Option<_>, line: &str| {
        if implements_a_trait(line) {
            !is_implied(line)
        } else {
            !is_function(line) || parent.is_none_or(|parent| !implementations.contains(&parent))
        }
    };
    let listed = items.iter().filter(|(_, parent, line)| is_listed(*parent, line));
    Ok(listed.map(|(_, _, line)| line.clone()).collect())
}

fn implements_a_trait(line: &str) -> bool {
    line.starts_with("impl") && line.contains(" for ")
}

/// An auto trait other than a missing `Send` or `Sync`, or the marker that `derive(PartialEq)` adds.
fn is_implied(line: &str) -> bool {
    const AUTO: [&str; 6] = [
        "core::marker::Freeze for ",
        "core::marker::Send for ",
        "core::marker::StructuralPartialEq for ",
        "core::marker::Sync for ",
        "core::marker::Unpin for ",
        "core::panic::unwind_safe::",
    ];
    let is_missing = ["impl !core::marker::Send ", "impl !core::marker::Sync "];
    let (header, _) = line.split_once(" for ").unwrap_or((line, ""));
    let header = format!("{header} for ");
    !is_missing.iter().any(|missing| header.starts_with(missing))
        && AUTO.iter().any(|auto| header.contains(auto))
}

fn is_function(line: &str) -> bool {
    let (before, _) = line.split_once('(').unwrap_or((line, ""));
    before.split(' ').any(|word| word == "fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_are_listed_except_those_that_follow_from_the_fields() {
        for listed in [
            "impl core::clone::Clone for x::A",
            "impl<T> serde_core::ser::Serialize for x::A<T>",
            "impl !core::marker::Send for x::A",
            "impl !core::marker::Sync for x::A",
            "impl<T> core::convert::From<T> for x::A where T: core::marker::Send",
        ] {
            assert!(implements_a_trait(listed) && !is_implied(listed), "{listed}");
        }
        for implied in [
            "impl core::marker::Send for x::A",
            "impl<T> core::marker::Sync for x::A<T> where T: core::marker::Sync",
            "impl !core::marker::Freeze for x::A",
            "impl !core::panic::unwind_safe::RefUnwindSafe for x::A",
            "impl core::marker::Unpin for x::A",
            "impl core::marker::StructuralPartialEq for x::A",
        ] {
            assert!(is_implied(implied), "{implied}");
        }
        assert!(!implements_a_trait("impl<F: for<'a> core::ops::function::Fn(&'a str)> x::A<F>"));
    }

    #[test]
    fn functions_are_distinguished_from_fields_of_function_type() {
        assert!(is_function("pub async fn x::A::copy(&self, &str) -> x::B"));
        assert!(is_function("pub const fn x::A::new() -> Self"));
        assert!(!is_function("pub x::A::field: (fn() -> u8)"));
        assert!(!is_function("pub struct x::A"));
    }
}
