//! Read `[environment.policy]`.

use std::{collections::BTreeMap, time::Duration};

use jiff::{
    civil::{DateTime, Time, Weekday},
    tz::TimeZone,
};

use super::{
    ApprovalRule, Approver, Freeze, FreezeWindow, PolicyConfig, PolicyName, RecordRule, ScanBudget, Severity,
    Signatory, SignatureRule, freeze::day,
};
use crate::{
    config::{
        error::ConfigError,
        layer::{Setting, Settings, duration, list, switch},
        name::Environment,
    },
    select::Glob,
};

/// How long an approval is valid by default.
const APPROVAL_EXPIRY: Duration = Duration::from_secs(72 * 3600);
/// How old a scan may be by default.
const SCAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// The policy of an environment. `known` are the names of all environments, and `before` is the one before it.
pub(in crate::config) fn read(
    settings: &Settings,
    known: &[Environment],
    before: Option<&Environment>,
) -> Result<PolicyConfig, ConfigError> {
    let optional = |key: &str| settings.get(key).map(|_| duration(settings, key)).transpose();
    let branches = globs(settings, "policy.branches");
    let policy = PolicyConfig {
        from: from(settings, known, before)?,
        soak: optional("policy.soak")?,
        proven: switch(settings, "policy.proven")?.unwrap_or(false),
        approvals: approvals(settings)?,
        forks: switch(settings, "policy.forks")?.unwrap_or(branches.is_empty()),
        branches,
        wait: optional("policy.wait")?,
        freezes: settings
            .names("policy.freeze")
            .iter()
            .map(|name| freeze(name, settings))
            .collect::<Result<_, _>>()?,
        scan: scan(settings)?,
        signatures: settings
            .names("policy.signature")
            .iter()
            .map(|name| signature(name, settings))
            .collect::<Result<_, _>>()?,
        referrers: list(settings.text("policy.referrers")?),
        records: records(settings)?,
    };
    // Facts about the environment before have no meaning where there is none.
    if policy.from.is_empty()
        && let Some(setting) = ["policy.soak", "policy.proven"].iter().find_map(|key| settings.get(key))
    {
        let reason =
            "requires an environment that images come from: this is the first one, so set `policy.from`";
        return Err(setting.invalid(format!("`{}` {reason}", setting.key)));
    }
    Ok(policy)
}

fn globs(settings: &Settings, key: &str) -> Vec<Glob> {
    list(settings.get(key).map(|setting| setting.value.clone())).into_iter().map(Glob::new).collect()
}

fn from(
    settings: &Settings,
    known: &[Environment],
    before: Option<&Environment>,
) -> Result<Vec<Environment>, ConfigError> {
    let Some(setting) = settings.get("policy.from") else { return Ok(before.into_iter().cloned().collect()) };
    let find = |name: String| {
        let found = known.iter().find(|known| known.as_str() == name);
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(Environment::as_str).collect();
            setting.invalid(format!("unknown environment {name:?}, expected one of {}", known.join(", ")))
        })
    };
    list(Some(setting.value.clone())).into_iter().map(find).collect()
}

fn approvals(settings: &Settings) -> Result<Option<ApprovalRule>, ConfigError> {
    let names = settings.names("policy.approver");
    let Some(count) = settings.get("policy.approvals") else {
        let key = settings.get("policy.approval-expiry");
        let approver = || settings.section("policy.approver").next().map(|(_, setting)| setting);
        return match key.or_else(approver) {
            Some(setting) => Err(setting.invalid(format!(
                "`{}` has no effect without `policy.approvals`, the number of approvals",
                setting.key
            ))),
            None => Ok(None),
        };
    };
    let number = number(count)?;
    let mut approvers = BTreeMap::new();
    for name in &names {
        let key = format!("policy.approver.{name}.key");
        let first = first(settings, &format!("policy.approver.{name}"));
        let file = settings.text(&key)?.ok_or_else(|| {
            first.invalid(format!("the approver {name} has no `key`: the file with the public key"))
        })?;
        let aliases = list(settings.text(&format!("policy.approver.{name}.aliases"))?);
        approvers.insert(policy_name(name, &first)?, Approver { key: file.into(), aliases });
    }
    if number == 0 {
        return Err(count.invalid("`policy.approvals` must be at least 1 or omitted"));
    }
    if (approvers.len() as u64) < u64::from(number) {
        return Err(count.invalid(format!(
            "{number} approvals are required, but there are {} approvers: add [environment.policy.approver.<name>]",
            approvers.len()
        )));
    }
    let expiry = settings.get("policy.approval-expiry");
    let expiry = expiry.map(|_| duration(settings, "policy.approval-expiry")).transpose()?;
    Ok(Some(ApprovalRule { count: number, expiry: expiry.unwrap_or(APPROVAL_EXPIRY), approvers }))
}

fn scan(settings: &Settings) -> Result<Option<ScanBudget>, ConfigError> {
    let Some((_, first)) = settings.section("policy.scan").next() else { return Ok(None) };
    let mut limits = BTreeMap::new();
    for severity in Severity::ALL {
        if let Some(setting) = settings.get(&format!("policy.scan.{}", severity.name())) {
            limits.insert(severity, number(setting)?);
        }
    }
    if limits.is_empty() {
        let reason = "limits no severity: set `policy.scan.critical` or another one";
        return Err(first.invalid(format!("`{}` {reason}", first.key)));
    }
    let age = settings.get("policy.scan.max-age").map(|_| duration(settings, "policy.scan.max-age"));
    Ok(Some(ScanBudget {
        limits,
        unfixed: switch(settings, "policy.scan.unfixed")?.unwrap_or(true),
        max_age: age.transpose()?.unwrap_or(SCAN_AGE),
    }))
}

fn records(settings: &Settings) -> Result<Option<RecordRule>, ConfigError> {
    let required = switch(settings, "policy.require-record")?.unwrap_or(false);
    let keys = list(settings.text("policy.keys")?);
    match settings.get("policy.require-record").filter(|_| required && keys.is_empty()) {
        Some(setting) => Err(setting.invalid(
            "`policy.require-record` requires `policy.keys`: the files with the public keys of valid records",
        )),
        None if keys.is_empty() => Ok(None),
        None => Ok(Some(RecordRule { keys: keys.into_iter().map(Into::into).collect(), required })),
    }
}

fn signature(name: &str, settings: &Settings) -> Result<SignatureRule, ConfigError> {
    let section = format!("policy.signature.{name}");
    let first = first(settings, &section);
    let text = |key: &str| settings.text(&format!("{section}.{key}"));
    let kinds = (text("key")?, text("identity")?, text("signing-profile")?);
    let further = (text("issuer")?, text("trusted-root")?);
    let by = match (kinds, further) {
        ((Some(file), None, None), (None, None)) => Signatory::Key { file: file.into() },
        ((None, None, Some(arn)), (None, None)) => Signatory::SigningProfile { arn },
        ((None, Some(identity), None), (Some(issuer), Some(root))) => {
            Signatory::Identity { identity: Glob::new(identity), issuer, trusted_root: root.into() }
        }
        _ => {
            return Err(first.invalid(format!(
                "the signature {name} requires `key`, or `signing-profile`, or `identity` with `issuer` and `trusted-root`"
            )));
        }
    };
    Ok(SignatureRule { name: policy_name(name, &first)?, by })
}

fn freeze(name: &str, settings: &Settings) -> Result<Freeze, ConfigError> {
    let section = format!("policy.freeze.{name}");
    let first = first(settings, &section);
    let get = |key: &str| settings.get(&format!("{section}.{key}"));
    let zone = match get("zone") {
        None => TimeZone::UTC,
        Some(setting) => TimeZone::get(&setting.value).map_err(|_| {
            setting.invalid(format!(
                "unknown time zone {:?}: expected a name such as Europe/Berlin",
                setting.value
            ))
        })?,
    };
    let (from, until) = (get("from"), get("until"));
    let window = match get("days") {
        Some(days) => {
            let time = |setting: &Setting| {
                setting.value.parse::<Time>().map_err(|_| {
                    setting.invalid(format!("{:?} is not a time of the day, such as 16:00", setting.value))
                })
            };
            let start = from.map(time).transpose()?.unwrap_or_default();
            let end = until.map(time).transpose()?;
            if let Some(until) = until.filter(|_| end.is_some_and(|end| end <= start)) {
                return Err(until.invalid(
                    "`until` is not after `from`: a window ends on the day on which it starts; omit `until` for the \
                     whole day, and add a second freeze for the next one",
                ));
            }
            FreezeWindow::Weekly { days: weekdays(days)?, from: start, until: end }
        }
        None => {
            let time = |setting: Option<&Setting>, key: &str| {
                let setting = setting.ok_or_else(|| {
                    first.invalid(format!("the freeze {name} has no `{key}`, and no `days`"))
                })?;
                // An offset or `Z` would contradict the zone.
                let is_local = !setting.value.contains(['Z', 'z', '+', '[']);
                setting.value.parse::<DateTime>().ok().filter(|_| is_local).ok_or_else(|| {
                    let form = "expected a date and time without offset, such as 2026-12-23T18:00";
                    setting.invalid(format!("{:?} is not a date: {form}", setting.value))
                })
            };
            let (start, end) = (time(from, "from")?, time(until, "until")?);
            if let Some(until) = until.filter(|_| end <= start) {
                return Err(until.invalid("`until` is not after `from`"));
            }
            FreezeWindow::Dates { from: start, until: end }
        }
    };
    Ok(Freeze { name: policy_name(name, &first)?, window, zone })
}

fn weekdays(setting: &Setting) -> Result<Vec<Weekday>, ConfigError> {
    let mut days = Vec::new();
    for name in list(Some(setting.value.clone())) {
        let day = day(&name).ok_or_else(|| {
            setting.invalid(format!("unknown day {name:?}, expected mon, tue, wed, thu, fri, sat or sun"))
        })?;
        if !days.contains(&day) {
            days.push(day);
        }
    }
    if days.is_empty() { Err(setting.invalid("`days` is empty")) } else { Ok(days) }
}

/// The first setting of a section that exists.
fn first(settings: &Settings, section: &str) -> Setting {
    let first = settings.section(section).next().map(|(_, setting)| setting.clone());
    let Some(first) = first else { unreachable!("every name comes from a setting") };
    first
}

fn policy_name(name: &str, first: &Setting) -> Result<PolicyName, ConfigError> {
    name.parse().map_err(|error| first.invalid(format!("{error}")))
}

fn number(setting: &Setting) -> Result<u32, ConfigError> {
    let is_number = !setting.value.is_empty() && setting.value.bytes().all(|byte| byte.is_ascii_digit());
    let number = setting.value.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| setting.invalid(format!("{:?} is not a whole number", setting.value)))
}
