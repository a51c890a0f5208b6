//! Route each reference to the store of its service and region.

use std::collections::BTreeMap;

use futures_util::future::join_all;

#[cfg(feature = "ssm")]
use super::ParameterStore;
#[cfg(feature = "secretsmanager")]
use super::SecretsManager;
use super::{Description, Store};
use crate::{
    error::{Error, ErrorKind},
    reference::Reference,
    value::Stored,
};

/// The stores of a program: one for each service and region of its references.
///
/// A reference by ARN is read from the store of the ARN's region, a reference by name from the first store of its
/// service.
///
/// ```no_run
/// use bp_secrets::{ParameterStore, SecretsManager, Store as _, Stores};
///
/// # async fn example(config: aws_types::SdkConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let stores = Stores::new()
///     .secrets_manager(SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config)))
///     .parameter_store(ParameterStore::new(aws_sdk_ssm::Client::new(&config)));
/// let password = stores.fetch_one(&"secretsmanager:prod/db:password::".parse()?).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stores {
    #[cfg(feature = "secretsmanager")]
    secrets: Vec<SecretsManager>,
    #[cfg(feature = "ssm")]
    parameters: Vec<ParameterStore>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    #[cfg(feature = "secretsmanager")]
    Secrets(usize),
    #[cfg(feature = "ssm")]
    Parameters(usize),
}

impl Stores {
    /// Creates an empty set of stores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a Secrets Manager store.
    #[cfg(feature = "secretsmanager")]
    pub fn secrets_manager(mut self, store: SecretsManager) -> Self {
        self.secrets.push(store);
        self
    }

    /// Adds a Parameter Store store.
    #[cfg(feature = "ssm")]
    pub fn parameter_store(mut self, store: ParameterStore) -> Self {
        self.parameters.push(store);
        self
    }

    fn route(&self, reference: &Reference) -> Option<Route> {
        let region = reference.arn().map(|arn| arn.region());
        let in_region = |at: Option<&str>| region.is_none_or(|region| at.is_none_or(|at| at == region));
        match reference {
            #[cfg(feature = "secretsmanager")]
            Reference::Secret(_) => {
                self.secrets.iter().position(|s| in_region(s.region())).map(Route::Secrets)
            }
            #[cfg(feature = "ssm")]
            Reference::Parameter(_) => {
                self.parameters.iter().position(|s| in_region(s.region())).map(Route::Parameters)
            }
            #[allow(unreachable_patterns, reason = "with both features")]
            _ => None,
        }
    }

    /// The references of each store, with their indices.
    fn groups(&self, references: &[Reference]) -> Vec<Group> {
        let mut groups: BTreeMap<Route, Group> = BTreeMap::new();
        for (at, reference) in references.iter().enumerate() {
            if let Some(route) = self.route(reference) {
                let new = || Group { route, indices: Vec::new(), references: Vec::new() };
                let group = groups.entry(route).or_insert_with(new);
                group.indices.push(at);
                group.references.push(reference.clone());
            }
        }
        groups.into_values().collect()
    }

    async fn read_group(&self, group: &Group) -> Vec<Result<Stored, Error>> {
        match group.route {
            #[cfg(feature = "secretsmanager")]
            Route::Secrets(at) => match self.secrets.get(at) {
                Some(store) => store.read(&group.references).await,
                None => Vec::new(),
            },
            #[cfg(feature = "ssm")]
            Route::Parameters(at) => match self.parameters.get(at) {
                Some(store) => store.read(&group.references).await,
                None => Vec::new(),
            },
        }
    }

    async fn describe_group(&self, group: &Group) -> Vec<Result<Description, Error>> {
        match group.route {
            #[cfg(feature = "secretsmanager")]
            Route::Secrets(at) => match self.secrets.get(at) {
                Some(store) => store.describe(&group.references).await,
                None => Vec::new(),
            },
            #[cfg(feature = "ssm")]
            Route::Parameters(at) => match self.parameters.get(at) {
                Some(store) => store.describe(&group.references).await,
                None => Vec::new(),
            },
        }
    }
}

/// References of one store.
struct Group {
    route: Route,
    /// The indices of their answers.
    indices: Vec<usize>,
    references: Vec<Reference>,
}

/// Merges the groups' answers in the order of the references.
fn gather<T>(
    references: &[Reference],
    groups: Vec<Group>,
    answers: Vec<Vec<Result<T, Error>>>,
) -> Vec<Result<T, Error>> {
    let mut all: Vec<Result<T, Error>> =
        references.iter().map(|r| Err(Error::new(r, ErrorKind::NoStore))).collect();
    for (group, answers) in groups.into_iter().zip(answers) {
        for (at, answer) in group.indices.into_iter().zip(answers) {
            if let Some(place) = all.get_mut(at) {
                *place = answer;
            }
        }
    }
    all
}

impl Store for Stores {
    async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        let groups = self.groups(references);
        let answers = join_all(groups.iter().map(|group| self.read_group(group))).await;
        gather(references, groups, answers)
    }

    async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
        let groups = self.groups(references);
        let answers = join_all(groups.iter().map(|group| self.describe_group(group))).await;
        gather(references, groups, answers)
    }
}
