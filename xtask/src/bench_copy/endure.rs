//! Twenty copies of `multi` between real registries, with one request in ten spoilt on both sides.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    contestants::{self, CRANE_DEFAULT, OURS},
    images::Set,
    registries::{Pair, Version},
    spoil::Spoiler,
};
use crate::{
    command::{self, Builds},
    e2e::tools::{CRANE, Cache, Toolbox},
    report,
};

const COPIES: u64 = 20;
/// A copy that takes longer does not finish.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs them; whether all of ours finished, and are what was sent.
pub(crate) fn run(cache: &Cache, builds: &Builds) -> Result<bool> {
    crate::e2e::server::end_all_on_signal()?;
    let tools = cache.open()?;
    let ours = contestants::build(&builds.directory())?;
    let scratch = super::scratch()?;
    let finished = endure(&tools, &ours, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let finished = finished?;
    let told: Vec<String> = finished.iter().map(|(name, count)| format!("{name} {count}")).collect();
    report::line(format_args!(
        "soak: of {COPIES} copies between real registries finished: {}",
        told.join(", ")
    ));
    Ok(finished.get(OURS) == Some(&COPIES))
}

fn endure(tools: &Toolbox, ours: &Path, scratch: &Path) -> Result<BTreeMap<&'static str, u64>> {
    let pair = Pair::start(Version::Debian, tools, scratch)?;
    let set = Set::Multi;
    let tags = set.push(&pair.source.address)?;
    let digest = |image: &str| {
        let said = command::output(tools.command(CRANE)?.args(["digest", image]))?;
        Ok::<_, anyhow::Error>(said.trim().to_owned())
    };
    let expected = digest(&format!("{}/{}:{}", pair.source.address, set.repository(), tags[0]))?;
    let all = contestants::all(tools, ours)?;
    let mut finished = BTreeMap::new();
    for copy in 0..COPIES {
        for contestant in all.iter().filter(|one| [CRANE_DEFAULT, OURS].contains(&one.name)) {
            // Both meet the same luck, as far as they ask the same.
            let source = Spoiler::start(&pair.source.address, 2 * copy + 1)?;
            let destination = Spoiler::start(&pair.destination.address, 2 * copy + 2)?;
            let repository = pair.fresh(contestant, set);
            let job = contestants::Job {
                set,
                tags: &tags,
                source: format!("{}/{}", source.address(), set.repository()),
                destination: format!("{}/{repository}", destination.address()),
                memory: scratch.join("memory"),
            };
            let ended = command::ended_within(LIMIT, &mut contestant.command(&job));
            let done = ended.as_ref().is_ok_and(|ended| ended.status.success());
            *finished.entry(contestant.name).or_insert(0) += u64::from(done);
            let copied = format!("{}/{repository}:{}", pair.destination.address, tags[0]);
            if done {
                let found = digest(&copied).with_context(|| format!("{} left nothing", contestant.name))?;
                ensure!(found == expected, "{} finished with {found}", contestant.name);
            } else if let (true, Ok(ended)) = (contestant.ours(), ended) {
                report::line(format_args!("     copy {copy}: {}", command::tail(&ended.stderr, 3)));
            }
            if done && contestant.ours() {
                command::output(tools.command(CRANE)?.args(["validate", "--remote", &copied]))?;
            }
        }
        report::line(format_args!("     copy {} of {COPIES}: {finished:?}", copy + 1));
    }
    Ok(finished)
}
