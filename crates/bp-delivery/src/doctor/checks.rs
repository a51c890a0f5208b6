//! The checks of a run have one deadline.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::row::{RETRY, Row, State};
use crate::Session;

/// The checks of a run, with their common deadline.
pub(crate) struct Doctor {
    pub(crate) session: Session,
    deadline: Instant,
    timeout: Duration,
}

impl Doctor {
    pub(crate) fn new(session: Session, timeout: Duration) -> Self {
        Doctor { session, deadline: bp_artifact::time::deadline(timeout), timeout }
    }

    /// Runs one check until the deadline; past it, its row is unknown.
    pub(super) async fn within<T>(
        &self,
        check: &str,
        work: impl Future<Output = Result<T, Row>>,
    ) -> Result<T, Row> {
        timeout_at(self.deadline, work).await.unwrap_or_else(|_| {
            let detail = format!("not completed within {} s", self.timeout.as_secs_f64());
            Err(Row::new(check, State::Unknown, detail).remedy(RETRY))
        })
    }

    /// As [`within`](Self::within), for a check with one row.
    pub(super) async fn row(&self, check: &str, work: impl Future<Output = Row>) -> Row {
        self.within(check, async { Ok(work.await) }).await.unwrap_or_else(|row| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doctor() -> Doctor {
        Doctor::new(Session::new(crate::Endpoints::default()), Duration::from_secs(3))
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_past_the_deadline_is_unknown() {
        let start = Instant::now();
        let row = doctor().row("registry", std::future::pending()).await;
        assert_eq!((row.state, start.elapsed().as_secs()), (State::Unknown, 3));
        assert!(row.detail.contains("3 s") && row.remedy.unwrap().contains("--timeout"), "{}", row.detail);
    }
}
