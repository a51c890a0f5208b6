//! Lists the environments, services and targets of a configuration: `cargo run -p bp-delivery --example environments
//! [bp.toml]`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bp_artifact::Config;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "examples/bp.toml".to_owned());
    let config = Config::load(path)?;
    for environment in config.environments() {
        println!("{}: account {:?}, region {}", environment.name, environment.account, environment.region);
        for service in environment.services() {
            let name = service.name.as_ref().map_or("the only service", |name| name.as_str());
            println!("  {name}: {}, timeout {:?}", service.repository, service.deploy.timeout);
            if let Ok(ecs) = service.ecs() {
                println!("    ECS service {} in cluster {}", ecs.service, ecs.cluster);
            }
            if let Ok(eks) = service.eks() {
                println!("    EKS cluster {}, namespace {}: {:?}", eks.cluster, eks.namespace, eks.object);
            }
        }
    }
    Ok(())
}
