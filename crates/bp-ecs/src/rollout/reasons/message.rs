//! Normalized messages of ECS, with the names of resources replaced.

/// A message in lower case, with the names of resources replaced by `<name>`, and those names.
#[derive(Debug)]
pub(super) struct ServiceMessage {
    original: String,
    text: String,
    names: Vec<String>,
}

impl ServiceMessage {
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
        ServiceMessage { original: message.to_owned(), text: words.join(" "), names }
    }

    /// Whether the message contains `text`, which must be in lower case.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// Where `text`, which must be in lower case, occurs first.
    pub(super) fn position(&self, text: &str) -> Option<usize> {
        self.text.find(text)
    }

    /// The word after `text`, which must be in lower case, in its original case.
    pub(super) fn after(&self, text: &str) -> Option<&str> {
        let at = self.original.to_ascii_lowercase().find(text)? + text.len();
        self.original[at..].split_whitespace().next().map(core)
    }

    /// A copy without `text`.
    pub(super) fn without(&self, text: &str) -> Self {
        let (original, names) = (self.original.clone(), self.names.clone());
        ServiceMessage { original, text: self.text.replace(text, ""), names }
    }

    /// Whether the message contains any of `texts`.
    pub(super) fn contains_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.contains(text))
    }

    /// The first name that satisfies `is_it`, in its original case.
    pub(super) fn name(&self, is_it: impl Fn(&str) -> bool) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| is_it(name))
    }

    /// Whether an API denied access.
    pub(super) fn is_denied(&self) -> bool {
        self.contains_any(&[
            "accessdenied",
            "access denied",
            "not authorized",
            "unauthorized",
            "forbidden",
            "denied:",
            "missing permissions",
            "has the permissions to",
        ]) || self.status_is(|status| matches!(status, 401 | 403))
    }

    /// Whether there was no response, or none in time.
    pub(super) fn is_connection_error(&self) -> bool {
        const TEXTS: [&str; 17] = [
            "connection issue",
            "network connection",
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
            "request canceled",
            "context canceled",
            // The agent ends its helper programs when they exceed their time.
            "signal: killed",
        ];
        self.contains_any(&TEXTS)
    }

    /// Whether an API throttled the call or returned a server error.
    pub(super) fn is_overloaded(&self) -> bool {
        self.contains_any(&["toomanyrequests", "too many requests", "throttl", "rate exceeded"])
            || self.status_is(|status| status == 429 || (500..600).contains(&status))
    }

    /// Whether an HTTP status in the message satisfies `is_it`: `status code: 403`, `unexpected status: 401
    /// Unauthorized`, `API error (404)`.
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

/// Whether a word is the name of a resource: an ARN, URL, path, image, digest, address, or an id with digits in it.
fn is_name(core: &str) -> bool {
    let (letters, digits) = (
        core.chars().filter(char::is_ascii_alphabetic).count(),
        core.chars().filter(char::is_ascii_digit).count(),
    );
    let is_media_type = core.starts_with("application/");
    let is_path =
        core.contains('/') && core.len() > 1 && !matches!(core, "i/o" | "net/http") && !is_media_type;
    core.starts_with("arn:")
        || core.contains("://")
        || core.contains('@')
        || is_path
        || (core.contains('-') && digits > 0 && !is_media_type)
        || (digits >= 6)
        || (digits > 3 && letters > 0 && core.len() > 8)
        || (digits > 0 && core.matches('.').count() >= 3)
}
