//! Ages in kubectl's format.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// The age in kubectl's format, with up to two units: `2m5s`, `3h12m`, `9d`.
pub(super) fn since(at: &Value, now: Timestamp) -> String {
    let Some(at) = at.as_str().and_then(|at| at.parse::<Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = match seconds {
        0..120 => return format!("{seconds}s"),
        120..600 => ((minutes, 'm'), (seconds % 60, 's')),
        600..10_800 => ((minutes, 'm'), (0, 's')),
        10_800..28_800 => ((hours, 'h'), (minutes % 60, 'm')),
        28_800..172_800 => ((hours, 'h'), (0, 'm')),
        172_800..691_200 => ((days, 'd'), (hours % 24, 'h')),
        _ => ((days, 'd'), (0, 'h')),
    };
    let mut shown = format!("{}{}", large.0, large.1);
    if small.0 > 0 {
        let _ = write!(shown, "{}{}", small.0, small.1);
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_have_kubectls_format() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (at, shown) in [
            ("2026-01-09T23:59:01Z", "59s"),
            ("2026-01-09T23:55:55Z", "4m5s"),
            ("2026-01-09T23:55:00Z", "5m"),
            ("2026-01-09T23:00:00Z", "60m"),
            ("2026-01-09T19:48:00Z", "4h12m"),
            ("2026-01-09T00:00:00Z", "24h"),
            ("2026-01-06T22:00:00Z", "3d2h"),
            ("2025-12-01T00:00:00Z", "40d"),
            ("2026-01-11T00:00:00Z", "0s"),
            ("soon", "<unknown>"),
        ] {
            assert_eq!(since(&json!(at), now), shown, "{at}");
        }
    }
}
