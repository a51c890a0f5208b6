//! `bp.toml`: the services and environments of a project, in promotion order.

mod error;
mod gates;
mod keys;
mod layer;
mod loader;
mod manifests;
mod model;
mod name;
mod origin;
mod paths;
mod read;
mod release;
mod schema;
mod services;
mod shift;
mod steps;
mod tags;
mod tasks;
mod traffic;

pub use error::ConfigError;
pub use layer::Setting;
pub use loader::ConfigLoader;
pub use manifests::ManifestsConfig;
pub use model::{
    Config, DeployPlatform, DeployPolicy, EcsConfig, EcsTasks, EksConfig, EksObject, EnvironmentConfig,
    FailureLimit, GateCondition, GateConfig, GatePosition, Limits, Project, ServiceConfig,
};
pub use name::{AccountId, Environment, Region, RoleArn, ServiceName, Workload, WorkloadKind};
pub use origin::Origin;
pub use paths::ServicePaths;
pub use release::ReleaseConfig;
pub use schema::config_schema;
pub use steps::TrafficSteps;
pub use tags::{TAG_NAME, TAG_VALUE, is_tag_char};
pub use traffic::{TrafficConfig, TrafficObject};
