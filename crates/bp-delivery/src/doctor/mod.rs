//! Check what the commands need: tools, credentials and roles, the clock, registries, services and workloads, permissions.
//! Changes nothing.

mod access;
mod checks;
mod ecs;
mod eks;
mod registry;
mod row;
mod tools;

use bp_artifact::{Config, config::EnvironmentConfig};
use futures_util::future::join_all;

pub(crate) use self::checks::Doctor;
use self::row::{Report, Row, State};
use crate::Delivery;

impl Doctor {
    /// Runs all checks.
    pub(crate) async fn run(&self, config: &Config, environments: &[&EnvironmentConfig]) -> Report {
        let mut rows = vec![tools::build(environments)];
        rows.extend(self.tools(environments).await);
        let caller = match environments.first() {
            Some(first) => self.caller(first).await,
            None => Vec::new(),
        };
        let caller_is_unknown =
            caller.iter().any(|row| row.check == access::CALLER && row.state != State::Ok);
        rows.extend(caller);
        let all = environments.iter().map(|environment| self.environment(environment, caller_is_unknown));
        for (environment, checked) in environments.iter().zip(join_all(all).await) {
            rows.extend(checked.into_iter().map(|row| row.of(&environment.name)));
        }
        let names: Vec<&str> = config.environments().iter().map(|e| e.name.as_str()).collect();
        rows.insert(0, Row::ok("bp.toml", format!("{}: {}", config.project.name, names.join(" -> "))));
        Report::new(rows)
    }

    async fn environment(&self, environment: &EnvironmentConfig, caller_is_unknown: bool) -> Vec<Row> {
        let role = if environment.role.is_some() { "role" } else { "sign-in" };
        if caller_is_unknown {
            let detail = "not checked, because there is no identity of the caller";
            return vec![Row::new(role, State::Unknown, detail).remedy("see the row of the caller")];
        }
        let opened = self.within(role, async { Ok(self.session.open(environment).await) }).await;
        let clients = match opened {
            Ok(Ok(clients)) => clients,
            Ok(Err(failure)) => return vec![access::refused(role, environment, &failure)],
            Err(row) => return vec![row],
        };
        let mut rows = self.signed_in(role, &clients).await;
        rows.extend(self.registry(environment, &clients).await);
        let services = environment.services().iter().map(async |service| {
            let delivery = Delivery::new(environment.clone(), service.clone(), clients.clone());
            let mut rows = self.ecs(&delivery).await;
            rows.extend(self.eks(&delivery).await);
            rows
        });
        rows.extend(join_all(services).await.into_iter().flatten());
        rows
    }
}
