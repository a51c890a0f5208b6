//! Variables of a shell, in a file to be sourced: `. ./bp.env`. CodeBuild exports variables that the shell of its build
//! sets, and a program cannot set those itself.

/// Assignments of the values to `BP_RESULT_...`. A value that is not known is empty, so that none of an earlier command
/// remains.
pub(super) fn exports(pairs: &[(&'static str, String)]) -> String {
    let line = |(name, value): &(&str, String)| {
        let name = name.to_ascii_uppercase().replace('-', "_");
        format!("export BP_RESULT_{name}={}\n", quoted(value))
    };
    pairs.iter().map(line).collect()
}

/// A word in single quotes, in which a shell interprets nothing.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_values_and_executes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let hostile = "a'b \"c\" $(touch owned) `touch owned` ; touch owned\n\\ $HOME !x * é";
        let text = exports(&[("digest", hostile.to_owned()), ("exit-code", "3".to_owned())]);
        std::fs::write(directory.path().join("bp.env"), text).unwrap();
        let script = ". ./bp.env; printf '%s|%s' \"$BP_RESULT_DIGEST\" \"$BP_RESULT_EXIT_CODE\"";
        let end = Command::new("sh").args(["-euc", script]).current_dir(directory.path()).output().unwrap();
        assert_eq!(String::from_utf8(end.stdout).unwrap(), format!("{hostile}|3"));
        assert!(!directory.path().join("owned").exists());
    }
}
