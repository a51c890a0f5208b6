//! Build helm's command lines: each flag and its value are one argument, and operands follow `--`, so that no text from
//! outside is read as a flag.

/// A command line of helm.
#[derive(Debug, Clone)]
pub(super) struct CommandLine {
    words: Vec<String>,
    operands: Vec<String>,
}

impl CommandLine {
    /// A command, such as `get manifest`.
    pub(super) fn new<const N: usize>(words: [&str; N]) -> Self {
        CommandLine { words: words.map(str::to_owned).to_vec(), operands: Vec::new() }
    }

    /// A flag without a value.
    pub(super) fn switch(mut self, name: &str) -> Self {
        self.words.push(format!("--{name}"));
        self
    }

    /// A flag with a value.
    pub(super) fn flag(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.words.push(format!("--{name}={}", value.as_ref()));
        self
    }

    /// Complete flags, of which none takes the next argument as its value.
    pub(super) fn flags(mut self, flags: impl IntoIterator<Item = String>) -> Self {
        self.words.extend(flags);
        self
    }

    /// An operand: the name of a release, a revision or a chart.
    pub(super) fn operand(mut self, operand: impl Into<String>) -> Self {
        self.operands.push(operand.into());
        self
    }

    /// The arguments.
    pub(super) fn into_arguments(self) -> impl Iterator<Item = String> {
        let end = (!self.operands.is_empty()).then(|| "--".to_owned());
        self.words.into_iter().chain(end).chain(self.operands)
    }
}

/// The text as one field of a flag that helm splits at commas, as CSV.
pub(super) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_or_operand_is_read_as_a_flag() {
        let line = CommandLine::new(["upgrade"])
            .switch("install")
            .flag("version", "--devel")
            .operand("--post-renderer=x")
            .operand("-f");
        let arguments: Vec<String> = line.into_arguments().collect();
        assert_eq!(arguments, ["upgrade", "--install", "--version=--devel", "--", "--post-renderer=x", "-f"]);
        let version: Vec<String> = CommandLine::new(["version"]).into_arguments().collect();
        assert_eq!(version, ["version"]);
    }

    #[test]
    fn quotes_paths_that_contain_commas() {
        assert_eq!(csv_field("charts/prod.yaml"), "charts/prod.yaml");
        assert_eq!(csv_field("a,b.yaml"), "\"a,b.yaml\"");
        assert_eq!(csv_field("a\"b.yaml"), "\"a\"\"b.yaml\"");
    }
}
