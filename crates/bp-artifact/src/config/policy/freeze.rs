//! Times at which nothing enters an environment, in a time zone.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{DateTime, Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::name::PolicyName;

/// A time at which no image enters an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Freeze {
    /// Its name.
    pub name: PolicyName,
    /// When.
    pub window: FreezeWindow,
    /// The time zone of the window.
    #[serde(serialize_with = "zone_name", deserialize_with = "zone")]
    pub zone: TimeZone,
}

/// The time of a [`Freeze`], in its time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FreezeWindow {
    /// From a date and time until another, which is not part of it.
    Dates {
        /// The beginning.
        from: DateTime,
        /// The end.
        until: DateTime,
    },
    /// On these days of every week, from a time of the day until another, which is not part of it.
    Weekly {
        /// The days, at least one.
        #[serde(serialize_with = "day_names", deserialize_with = "days")]
        days: Vec<Weekday>,
        /// The beginning.
        from: Time,
        /// The end. `None`: the end of the day.
        until: Option<Time>,
    },
}

impl Freeze {
    /// The end of the freeze, if it is in force at `now`. A freeze whose end cannot be computed does not end.
    ///
    /// A local time that a change of the clocks skips or repeats counts as frozen as long as possible.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.window {
            FreezeWindow::Dates { from, until } => {
                let from = self.zone.to_ambiguous_timestamp(*from).earlier();
                let until = self.zone.to_ambiguous_timestamp(*until).later().unwrap_or(Timestamp::MAX);
                (from.unwrap_or(Timestamp::MIN) <= now && now < until).then_some(until)
            }
            FreezeWindow::Weekly { days, from, until } => {
                let local = self.zone.to_datetime(now);
                let is_frozen = days.contains(&local.weekday())
                    && *from <= local.time()
                    && until.is_none_or(|until| local.time() < until);
                let end = match until {
                    Some(until) => Ok(local.date().to_datetime(*until)),
                    None => local.date().to_datetime(Time::midnight()).checked_add(1.day()),
                };
                let end = end.and_then(|end| self.zone.to_ambiguous_timestamp(end).later());
                is_frozen.then(|| end.unwrap_or(Timestamp::MAX))
            }
        }
    }
}

fn zone_name<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

fn day_names<S: Serializer>(days: &[Weekday], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(days.iter().map(|day| day_name(*day)))
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    TimeZone::get(&name).map_err(D::Error::custom)
}

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weekday>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let day = |name: String| day(&name).ok_or_else(|| D::Error::custom(format!("unknown day {name:?}")));
    names.into_iter().map(day).collect()
}

/// The day with this name in `bp.toml`.
pub(super) fn day(name: &str) -> Option<Weekday> {
    Weekday::Monday.cycle_forward().take(7).find(|day| day_name(*day) == name)
}

/// The day's name in `bp.toml`.
fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn freeze(zone: &str, window: FreezeWindow) -> Freeze {
        Freeze { name: "year-end".parse().unwrap(), window, zone: TimeZone::get(zone).unwrap() }
    }

    #[test]
    fn dates_are_in_the_time_zone_and_the_end_is_open() {
        let window = FreezeWindow::Dates {
            from: "2026-12-23T18:00".parse().unwrap(),
            until: "2027-01-04T06:00".parse().unwrap(),
        };
        let freeze = freeze("Europe/Berlin", window);
        let end = Some(at("2027-01-04T05:00:00Z"));
        for (now, expected) in [
            ("2026-12-23T16:59:59Z", None),
            ("2026-12-23T17:00:00Z", end),
            ("2027-01-04T04:59:59Z", end),
            ("2027-01-04T05:00:00Z", None),
        ] {
            assert_eq!(freeze.until(at(now)), expected, "{now}");
        }
    }

    #[test]
    fn weekly_windows_follow_the_clock_changes() {
        let window = FreezeWindow::Weekly {
            days: vec![Weekday::Friday, Weekday::Saturday, Weekday::Sunday],
            from: "15:00".parse().unwrap(),
            until: None,
        };
        let freeze = freeze("America/New_York", window);
        // 15:00 is 19:00 UTC in summer and 20:00 UTC in winter.
        assert_eq!(freeze.until(at("2026-07-03T18:59:00Z")), None);
        assert_eq!(freeze.until(at("2026-07-03T19:00:00Z")), Some(at("2026-07-04T04:00:00Z")));
        assert_eq!(freeze.until(at("2026-12-04T19:30:00Z")), None);
        assert_eq!(freeze.until(at("2026-12-04T20:00:00Z")), Some(at("2026-12-05T05:00:00Z")));
        assert_eq!(freeze.until(at("2026-12-07T20:00:00Z")), None);
    }

    #[test]
    fn an_hour_that_occurs_twice_is_frozen_twice() {
        // 2026-10-25 in Berlin: 02:00 to 03:00 occurs in summer time, and again in winter time.
        let weekly = FreezeWindow::Weekly {
            days: vec![Weekday::Sunday],
            from: "02:30".parse().unwrap(),
            until: Some("02:45".parse().unwrap()),
        };
        let weekly = freeze("Europe/Berlin", weekly);
        let last = Some(at("2026-10-25T01:45:00Z"));
        for (now, expected) in
            [("2026-10-25T00:30:00Z", last), ("2026-10-25T00:50:00Z", None), ("2026-10-25T01:44:00Z", last)]
        {
            assert_eq!(weekly.until(at(now)), expected, "{now}");
        }
        let dates = FreezeWindow::Dates {
            from: "2026-10-25T02:30".parse().unwrap(),
            until: "2026-10-25T02:45".parse().unwrap(),
        };
        let dates = freeze("Europe/Berlin", dates);
        for (now, expected) in
            [("2026-10-25T00:29:00Z", None), ("2026-10-25T00:30:00Z", last), ("2026-10-25T01:44:59Z", last)]
        {
            assert_eq!(dates.until(at(now)), expected, "{now}");
        }
    }
}
