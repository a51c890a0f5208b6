//! `bp.toml`: the services and environments of a project, in promotion order.

mod error;
mod gates;
mod keys;
mod layer;
mod loader;
mod model;
mod name;
mod origin;
mod read;
mod schema;
mod services;
mod tags;
mod tasks;

pub use error::ConfigError;
pub use layer::Setting;
pub use loader::ConfigLoader;
pub use model::{
    Config, DeployPlatform, DeployPolicy, EcsConfig, EcsTasks, EksConfig, EksObject, EnvironmentConfig,
    FailureLimit, GateCondition, GateConfig, GatePosition, Limits, ManifestsConfig, Project, ReleaseConfig,
    ServiceConfig,
};
pub use name::{AccountId, Environment, Region, RoleArn, ServiceName, Workload, WorkloadKind};
pub use origin::Origin;
pub use schema::config_schema;
pub use tags::{TAG_NAME, TAG_VALUE, is_tag_char};
