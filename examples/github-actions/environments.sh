#!/usr/bin/env bash
# Creates the environments of the repository with their rules: prod waits for a reviewer and 30 minutes, and only main,
# production and tags v* may deploy there; drift and rotation have no reviewers. Run it again to restore the rules.
#   GH_TOKEN=... ./environments.sh example/shop REVIEWER
set -euo pipefail
repository=$1
reviewer=$(gh api "users/$2" --jq .id)

environment() {
    gh api --method PUT "repos/$repository/environments/$1" --input - >/dev/null
}

# allow ENVIRONMENT TYPE NAME...: branches or tags that may deploy to it, if they are not allowed yet.
allow() {
    local policies="repos/$repository/environments/$1/deployment-branch-policies" type=$2 known
    known=$(gh api "$policies" --jq '.branch_policies[].name')
    for name in "${@:3}"; do
        grep --quiet --fixed-strings --line-regexp -- "$name" <<<"$known" ||
            gh api --method POST "$policies" -f "name=$name" -f "type=$type" >/dev/null
    done
}

rules='"deployment_branch_policy":{"protected_branches":false,"custom_branch_policies":true}'
environment staging <<<"{$rules}"
environment drift <<<"{$rules}"
environment rotation <<<"{$rules}"
environment prod <<<"{\"wait_timer\":30,\"prevent_self_review\":true,
    \"reviewers\":[{\"type\":\"User\",\"id\":$reviewer}],$rules}"
allow staging branch main
allow staging tag 'v*'
allow drift branch main
allow rotation branch main
allow prod branch main production
allow prod tag 'v*'
