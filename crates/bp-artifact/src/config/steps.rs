//! The steps in which traffic is shifted.

use std::{fmt, str::FromStr};

use crate::parse::{ParseError, serde_as_text};

/// The most steps of a shift.
const MOST: usize = 100;

/// The steps in which traffic is shifted, as percentages: increasing, and the last one is 100.
///
/// ```
/// use bp_artifact::config::TrafficSteps;
///
/// let steps: TrafficSteps = "10, 50, 100".parse()?;
/// assert_eq!(steps.percentages(), [10, 50, 100]);
/// assert_eq!(TrafficSteps::default().to_string(), "5, 25, 50, 100");
/// assert!("50, 10, 100".parse::<TrafficSteps>().is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TrafficSteps(Vec<u8>);

impl TrafficSteps {
    /// One step: all traffic at once.
    pub fn at_once() -> Self {
        TrafficSteps(vec![100])
    }

    /// The percentages in order; the last one is 100.
    pub fn percentages(&self) -> &[u8] {
        &self.0
    }
}

impl Default for TrafficSteps {
    /// 5, 25, 50 and 100 percent.
    fn default() -> Self {
        TrafficSteps(vec![5, 25, 50, 100])
    }
}

impl FromStr for TrafficSteps {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: &'static str| ParseError::new("a list of steps", text, reason);
        let percentage = |part: &str| {
            let part = part.trim();
            let digits = part.strip_suffix('%').unwrap_or(part).trim_end();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u8>().ok().filter(|percent| is_number && (1..=100).contains(percent))
        };
        if text.split(',').count() > MOST {
            return Err(wrong("there are more than 100 steps"));
        }
        let steps: Option<Vec<u8>> = text.split(',').map(percentage).collect();
        let steps = steps.ok_or_else(|| wrong("expected percentages from 1 to 100, as in 5, 25, 50, 100"))?;
        if !steps.is_sorted_by(|earlier, later| earlier < later) {
            return Err(wrong("each step must be greater than the one before"));
        }
        if steps.last() != Some(&100) {
            return Err(wrong("the last step must be 100"));
        }
        Ok(TrafficSteps(steps))
    }
}

impl fmt::Display for TrafficSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&steps.join(", "))
    }
}

serde_as_text!(TrafficSteps);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_increasing_percentages_that_end_with_100() {
        for (text, expected) in [
            ("100", &[100][..]),
            ("5,25,50,100", &[5, 25, 50, 100]),
            (" 1% , 99 % ,100%", &[1, 99, 100]),
            ("005, 100", &[5, 100]),
        ] {
            assert_eq!(text.parse::<TrafficSteps>().unwrap().percentages(), expected, "{text}");
        }
        let many: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
        assert_eq!(many.join(",").parse::<TrafficSteps>().unwrap().percentages().len(), 100);
    }

    #[test]
    fn rejects_other_lists_with_the_reason() {
        for (text, reason) in [
            ("", "from 1 to 100"),
            ("0, 100", "from 1 to 100"),
            ("5, 101", "from 1 to 100"),
            ("+5, 100", "from 1 to 100"),
            ("5.5, 100", "from 1 to 100"),
            ("5, , 100", "from 1 to 100"),
            ("٥, 100", "from 1 to 100"),
            ("25, 5, 100", "greater"),
            ("25, 25, 100", "greater"),
            ("5, 50", "must be 100"),
        ] {
            let error = text.parse::<TrafficSteps>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(vec!["1"; 101].join(",").parse::<TrafficSteps>().is_err());
    }
}
