//! The commands that other tools have under another name.

/// Terms of other tools, and the commands for them here.
const WORDS: &[(&str, &[&str])] = &[
    ("apply", &["deploy-manifests"]),
    ("check", &["doctor", "deploy-ecs --check", "deploy-eks --check"]),
    ("completion", &["completions"]),
    ("cp", &["copy"]),
    ("deploy", &["dual-deploy", "deploy-ecs", "deploy-eks"]),
    ("diff", &["verify", "dual-deploy --plan"]),
    ("drift", &["verify"]),
    ("export", &["copy"]),
    ("get", &["status"]),
    ("history", &["status"]),
    ("images", &["ls"]),
    ("import", &["copy"]),
    ("list", &["ls"]),
    ("logs", &["status", "deploy-eks --logs"]),
    ("manifest", &["inspect"]),
    ("migrate", &["run-task"]),
    ("new", &["init"]),
    ("plan", &["dual-deploy --plan", "promote --plan"]),
    ("pull", &["copy"]),
    ("push", &["copy"]),
    ("release", &["dual-deploy"]),
    ("rollout", &["dual-deploy", "status"]),
    ("run", &["run-task"]),
    ("schema", &["config schema"]),
    ("ship", &["dual-deploy"]),
    ("sync", &["promote", "copy"]),
    ("tag", &["copy"]),
    ("tags", &["ls"]),
    ("undo", &["rollback"]),
    ("upgrade", &["deploy-helm", "dual-deploy"]),
    ("validate", &["config check"]),
    ("watch", &["wait", "status"]),
];

/// The commands for a word that is not one.
pub(crate) fn suggested(word: &str) -> &'static [&'static str] {
    let word = word.to_ascii_lowercase();
    WORDS.iter().find(|(known, _)| *known == word).map_or(&[], |(_, commands)| commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_existing_commands_for_words_that_are_none() {
        let command = crate::multicall::command();
        let mut earlier = "";
        for (word, commands) in WORDS {
            assert!(earlier < *word, "{word} is not sorted");
            earlier = word;
            assert!(command.find_subcommand(word).is_none(), "{word} is a command");
            for line in *commands {
                if cfg!(not(feature = "helm")) && line.starts_with("deploy-helm") {
                    continue;
                }
                let mut words = line.split(' ');
                let verb = command.find_subcommand(words.next().unwrap()).unwrap_or_else(|| panic!("{line}"));
                for word in words {
                    let is_flag = verb.get_arguments().any(|argument| {
                        argument.get_long().is_some_and(|long| Some(long) == word.strip_prefix("--"))
                    });
                    assert!(is_flag || verb.find_subcommand(word).is_some(), "{line}");
                }
            }
        }
        assert_eq!(suggested("Undo"), ["rollback"]);
        assert!(suggested("xyz").is_empty());
    }
}
