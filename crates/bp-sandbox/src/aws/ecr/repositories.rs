//! ECR repository operations: create, describe, delete, and tag mutability.

use serde_json::{Value, json};

use super::request::{
    Target, check_name, host, invalid, no_repository, page, registry_id, seconds, strings, with_next,
};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call},
    },
    registry::{Registry, TagMutability},
};

pub(super) fn create(context: &Context, call: &Call) -> Answer {
    let (name, id) = (call.text("repositoryName"), registry_id(call));
    check_name(name)?;
    let mutability = mutability(call)?;
    let host = host(id, &call.region);
    let registry = context.runtime.registry(&host).ok_or_else(|| {
        ApiError::new(
            400,
            "UnknownOperationException",
            format!("this sandbox has no registry {host}: add it to the builder"),
        )
    })?;
    if registry.describe(name).is_some() {
        return Err(ApiError::new(
            400,
            "RepositoryAlreadyExistsException",
            format!("The repository with name '{name}' already exists in the registry with id '{id}'"),
        ));
    }
    registry.create_repository(name);
    registry.set_mutability(name, mutability);
    Ok(json!({ "repository": repository(&registry, id, &call.region, name) }))
}

pub(super) fn describe(context: &Context, call: &Call) -> Answer {
    let id = registry_id(call);
    let registry = context.runtime.registry(&host(id, &call.region));
    let requested: Vec<&str> = strings(&call.input["repositoryNames"]).collect();
    let exists = |name: &str| registry.as_ref().is_some_and(|registry| registry.describe(name).is_some());
    if let Some(missing) = requested.iter().find(|name| !exists(name)) {
        return Err(no_repository(missing, id));
    }
    let Some(registry) = &registry else { return Ok(json!({ "repositories": [] })) };
    let names = match requested.as_slice() {
        [] => registry.repositories(),
        requested => requested.iter().map(|name| (*name).to_owned()).collect(),
    };
    let (names, next) = page(names, call, 100)?;
    let repositories: Vec<Value> =
        names.iter().map(|name| repository(registry, id, &call.region, name)).collect();
    Ok(with_next(json!({ "repositories": repositories }), next))
}

pub(super) fn delete(context: &Context, call: &Call) -> Answer {
    let Target { registry, id, name } = Target::of(context, call)?;
    let force = call.input["force"].as_bool().unwrap_or_default();
    if !force && !registry.manifests(name).is_empty() {
        return Err(ApiError::new(
            400,
            "RepositoryNotEmptyException",
            format!(
                "The repository with name '{name}' in registry with id '{id}' cannot be deleted because it still \
                 contains images"
            ),
        ));
    }
    let repository = repository(&registry, id, &call.region, name);
    registry.delete_repository(name);
    Ok(json!({ "repository": repository }))
}

pub(super) fn put_mutability(context: &Context, call: &Call) -> Answer {
    let Target { registry, id, name } = Target::of(context, call)?;
    let mutability = mutability(call)?;
    registry.set_mutability(name, mutability.clone());
    let mut answer = json!({ "registryId": id, "repositoryName": name });
    write_mutability(&mut answer, &mutability);
    Ok(answer)
}

fn repository(registry: &Registry, id: &str, region: &str, name: &str) -> Value {
    let partition = if region.starts_with("cn-") { "aws-cn" } else { "aws" };
    let mut value = json!({
        "repositoryArn": format!("arn:{partition}:ecr:{region}:{id}:repository/{name}"),
        "registryId": id,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "imageScanningConfiguration": { "scanOnPush": false },
        "encryptionConfiguration": { "encryptionType": "AES256" },
    });
    if let Some((created_at, mutability)) = registry.describe(name) {
        value["createdAt"] = json!(seconds(created_at));
        write_mutability(&mut value, &mutability);
    }
    value
}

pub(super) fn mutability(call: &Call) -> Result<TagMutability, ApiError> {
    let filters = call.input["imageTagMutabilityExclusionFilters"].as_array().into_iter().flatten();
    let filters: Vec<String> =
        filters.filter_map(|filter| filter["filter"].as_str()).map(str::to_owned).collect();
    let kind = call.text("imageTagMutability");
    let exclusion = kind.ends_with("_WITH_EXCLUSION");
    if exclusion == filters.is_empty() || filters.len() > 5 {
        return Err(invalid(
            "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: 'between 1 and 5 \
             filters with an exclusion, none without'",
        ));
    }
    match kind {
        "" | "MUTABLE" => Ok(TagMutability::Mutable),
        "IMMUTABLE" => Ok(TagMutability::Immutable),
        "IMMUTABLE_WITH_EXCLUSION" => Ok(TagMutability::ImmutableWithExclusion(filters)),
        "MUTABLE_WITH_EXCLUSION" => Ok(TagMutability::MutableWithExclusion(filters)),
        _ => Err(invalid(
            "Invalid parameter at 'imageTagMutability' failed to satisfy constraint: 'Member must satisfy enum value \
             set: [IMMUTABLE, MUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]'",
        )),
    }
}

/// Adds the tag mutability to a description.
pub(super) fn write_mutability(value: &mut Value, mutability: &TagMutability) {
    let (kind, filters): (_, &[String]) = match mutability {
        TagMutability::Mutable => ("MUTABLE", &[]),
        TagMutability::Immutable => ("IMMUTABLE", &[]),
        TagMutability::ImmutableWithExclusion(filters) => ("IMMUTABLE_WITH_EXCLUSION", filters),
        TagMutability::MutableWithExclusion(filters) => ("MUTABLE_WITH_EXCLUSION", filters),
    };
    value["imageTagMutability"] = json!(kind);
    if !filters.is_empty() {
        let filter = |filter: &String| json!({ "filterType": "WILDCARD", "filter": filter });
        value["imageTagMutabilityExclusionFilters"] = filters.iter().map(filter).collect();
    }
}
