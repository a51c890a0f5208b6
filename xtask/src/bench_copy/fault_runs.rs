//! `soak --registries`: 20 copies of `multi` between real registries, with faults in one request in ten on both sides.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    contestants::{self, CRANE_DEFAULT, OURS},
    fault_proxy::FaultProxy,
    images::Set,
    registries::{Pair, Version},
};
use crate::{
    command::{self, Builds},
    e2e::tools::{CRANE, Cache, Toolbox},
    report,
};

const COPIES: u64 = 20;
/// A copy that takes longer counts as failed.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the copies; returns whether all of ours finished with the right content.
pub(crate) fn run(cache: &Cache, builds: &Builds) -> Result<bool> {
    crate::e2e::server::stop_all_on_signal()?;
    let tools = cache.open()?;
    let ours = contestants::build(&builds.directory())?;
    let scratch = super::scratch()?;
    let finished = run_copies(&tools, &ours, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let finished = finished?;
    let counts: Vec<String> = finished.iter().map(|(name, count)| format!("{name} {count}")).collect();
    report::line(format_args!(
        "soak: finished copies between real registries, of {COPIES}: {}",
        counts.join(", ")
    ));
    Ok(finished.get(OURS) == Some(&COPIES))
}

fn run_copies(tools: &Toolbox, ours: &Path, scratch: &Path) -> Result<BTreeMap<&'static str, u64>> {
    let pair = Pair::start(Version::Debian, tools, scratch)?;
    let set = Set::Multi;
    let tags = set.push(&pair.source.address)?;
    let digest = |image: &str| {
        let output = command::output(tools.command(CRANE)?.args(["digest", image]))?;
        Ok::<_, anyhow::Error>(output.trim().to_owned())
    };
    let expected = digest(&format!("{}/{}:{}", pair.source.address, set.repository(), tags[0]))?;
    let all = contestants::all(tools, ours)?;
    let mut finished = BTreeMap::new();
    for copy in 0..COPIES {
        for contestant in all.iter().filter(|one| [CRANE_DEFAULT, OURS].contains(&one.name)) {
            // Both tools get the same sequence of faults.
            let source = FaultProxy::start(&pair.source.address, 2 * copy + 1)?;
            let destination = FaultProxy::start(&pair.destination.address, 2 * copy + 2)?;
            let repository = pair.fresh(contestant, set);
            let job = contestants::Job {
                set,
                tags: &tags,
                source: format!("{}/{}", source.address(), set.repository()),
                destination: format!("{}/{repository}", destination.address()),
                cache: scratch.join("cache"),
            };
            let ended = command::ended_within(LIMIT, &mut contestant.command(&job));
            let done = ended.as_ref().is_ok_and(|ended| ended.status.success());
            *finished.entry(contestant.name).or_insert(0) += u64::from(done);
            let copied = format!("{}/{repository}:{}", pair.destination.address, tags[0]);
            if done {
                let found = digest(&copied).with_context(|| {
                    format!("{} reported success, but the copy does not exist", contestant.name)
                })?;
                ensure!(found == expected, "{} copied {found} instead of {expected}", contestant.name);
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
