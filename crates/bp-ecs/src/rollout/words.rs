//! The words of a platform's message, without the names in it.

/// A message in lower case whose names are replaced by `<name>`, and the names.
#[derive(Debug)]
pub(super) struct Words {
    text: String,
    names: Vec<String>,
}

impl Words {
    pub(super) fn of(message: &str) -> Self {
        let mut names = Vec::new();
        let mut words = Vec::new();
        for word in message.split_whitespace() {
            let core = core(word);
            if is_name(core) {
                names.push(core.to_owned());
                words.push(word.replacen(core, "<name>", 1).to_lowercase());
            } else {
                words.push(word.to_lowercase());
            }
        }
        Words { text: words.join(" "), names }
    }

    /// Whether these words are in it, in lower case.
    pub(super) fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// The same without these words.
    pub(super) fn without(&self, words: &str) -> Self {
        Words { text: self.text.replace(words, ""), names: self.names.clone() }
    }

    pub(super) fn any(&self, all: &[&str]) -> bool {
        all.iter().any(|words| self.says(words))
    }

    /// The first name of this kind, as it is written.
    pub(super) fn name(&self, is_it: impl Fn(&str) -> bool) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| is_it(name))
    }

    /// Whether an API said that this may not be done.
    pub(super) fn is_denied(&self) -> bool {
        self.any(&["accessdenied", "access denied", "not authorized", "unauthorized", "forbidden", "denied:"])
            || self.status_is(|status| matches!(status, 401 | 403))
    }

    /// Whether no answer came, or none in time.
    pub(super) fn is_cut_off(&self) -> bool {
        const SAID: [&str; 13] = [
            "connection issue",
            "network configuration",
            "context deadline exceeded",
            "i/o timeout",
            "tls handshake timeout",
            "send request failed",
            "requestcanceled",
            "no such host",
            "connection refused",
            "connection reset",
            "client.timeout",
            "network is unreachable",
            "statuscode: 0,",
        ];
        self.any(&SAID)
    }

    /// Whether an API limits the rate, or is in trouble itself.
    pub(super) fn is_busy(&self) -> bool {
        self.any(&["toomanyrequests", "too many requests", "throttl", "rate exceeded"])
            || self.status_is(|status| status == 429 || (500..600).contains(&status))
    }

    /// Whether an HTTP status in it is one of these: `status code: 403`, `unexpected status: 401 Unauthorized`, `API error
    /// (404)`.
    pub(super) fn status_is(&self, is_it: impl Fn(u16) -> bool) -> bool {
        let words: Vec<&str> = self.text.split(' ').collect();
        words.windows(2).any(|pair| {
            let introduced =
                ["status", "status:", "code", "code:", "statuscode:", "error", "<name>:"].contains(&pair[0]);
            let number = core(pair[1]);
            introduced && number.len() == 3 && number.parse().is_ok_and(&is_it)
        })
    }
}

fn core(word: &str) -> &str {
    word.trim_matches(|c: char| matches!(c, ',' | ':' | ';' | '(' | ')' | '[' | ']' | '\'' | '"' | '.'))
}

/// Whether a word is a name: an ARN, URL, path, image, digest, address, or an id with digits in it.
fn is_name(core: &str) -> bool {
    let (letters, digits) = (
        core.chars().filter(char::is_ascii_alphabetic).count(),
        core.chars().filter(char::is_ascii_digit).count(),
    );
    let is_path = core.contains('/') && !matches!(core, "i/o");
    core.starts_with("arn:")
        || core.contains("://")
        || core.contains('@')
        || (is_path && core.len() > 3)
        || (core.contains('-') && digits > 0)
        || (digits >= 6)
        || (digits > 3 && letters > 0 && core.len() > 8)
        || (digits > 0 && core.matches('.').count() >= 3)
}
