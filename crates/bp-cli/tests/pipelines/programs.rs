//! Stand-ins for the programs of a CI machine that need a network, a Docker daemon or an account, and `bp`. Everything
//! else that the pipelines call is the machine's own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// What is downloaded as `bp`: a script that runs it, because a build for tests is large.
const BP: &str = r#"#!/bin/sh
exec "$STAND_IN_BP" "$@"
"#;

/// Downloads `bp` into the file of `--output`.
const CURL: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --output) output=$2; shift ;;
    https://*) url=$1 ;;
  esac
  shift
done
[ "$url" = "$STAND_IN_URL" ] || { echo "curl: unexpected address $url" >&2; exit 22; }
cp "$STAND_IN_PROGRAMS/bp-download" "$output"
"#;

/// `login` reads a password; `buildx build --push` pushes the image that the test has prepared, with each tag.
const DOCKER: &str = r#"#!/bin/sh
case "$1 $2" in
  "login --username") [ "$(cat)" = "password of ECR" ] ;;
  "run --privileged") ;;
  "buildx create") touch "$STAND_IN_STATE/builder" ;;
  "buildx build")
    tags=
    while [ $# -gt 1 ]; do
      case "$1" in
        --tag) tags="$tags $2"; shift ;;
        --platform) platforms=$2; shift ;;
      esac
      shift
    done
    [ -f "$1/Dockerfile" ] || { echo "docker: no Dockerfile in $1" >&2; exit 1; }
    # The default builder writes images of one platform only.
    case "$platforms" in *,*) [ -f "$STAND_IN_STATE/builder" ] || exit 1 ;; esac
    for tag in $tags; do
      "$STAND_IN_BP" copy "${tag%%/*}/builds/$1:next" "$tag" || exit
      echo "$1 $tag" >> "$STAND_IN_STATE/built"
    done ;;
  *) echo "docker: unexpected arguments $*" >&2; exit 64 ;;
esac
"#;

/// ECR's password; buckets are directories.
const AWS: &str = r#"#!/bin/sh
local_of() { case "$1" in s3://*) echo "$STAND_IN_STATE/${1#s3://}" ;; *) echo "$1" ;; esac; }
case "$1 $2" in
  "ecr get-login-password") echo "password of ECR" ;;
  "s3 sync")
    from=$(local_of "$3") to=$(local_of "$4")
    mkdir -p "$to"
    [ ! -d "$from" ] || cp -R "$from/." "$to" ;;
  *) echo "aws: unexpected arguments $*" >&2; exit 64 ;;
esac
"#;

/// Artifacts are directories, with their name as id; issues and commits are files; rules of environments are lines.
const GH: &str = r#"#!/bin/sh
[ -n "$GH_TOKEN" ] || { echo "gh: no token" >&2; exit 4; }
issues="$STAND_IN_STATE/issues"; mkdir -p "$issues"
case "$1 $2" in
  "api repos/example/shop/actions/artifacts?name="*)
    name=${2#*name=}; name=${name%%&*}
    [ ! -d "$STAND_IN_STATE/artifacts/$name" ] || echo "$name" ;;
  "api repos/example/shop/actions/artifacts/"*)
    name=${2#*artifacts/}; name=${name%/zip}
    cd "$STAND_IN_STATE/artifacts/$name" && tar -cf - . ;;
  "api repos/example/shop/commits/"*) cat "$STAND_IN_STATE/commits/${2##*/}" ;;
  "api users/"*) echo 4711 ;;
  "api repos/example/shop/environments/"*) touch "$STAND_IN_STATE/policies"; sort -u "$STAND_IN_STATE/policies" ;;
  "api --method")
    case "$3 $4" in
      "PUT repos/example/shop/environments/"*) echo "${4##*/} $(tr -d '\n ')" >> "$STAND_IN_STATE/environments" ;;
      "POST repos/example/shop/environments/"*) echo "${6#name=}" >> "$STAND_IN_STATE/policies" ;;
      *) echo "gh: unexpected arguments $*" >&2; exit 64 ;;
    esac ;;
  "issue list") [ ! -f "$issues/7" ] || echo 7 ;;
  "issue create") shift 2
    while [ $# -gt 0 ]; do case "$1" in --title) title=$2 ;; --body-file) body=$2 ;; esac; shift 2; done
    { echo "$title"; cat "$body"; } > "$issues/7" ;;
  "issue edit") cp "$5" "$issues/7" ;;
  "issue close") rm "$issues/$3" ;;
  *) echo "gh: unexpected arguments $*" >&2; exit 64 ;;
esac
"#;

/// Reads the archives of `gh`.
const UNZIP: &str = r#"#!/bin/sh
exec tar -xf "$2"
"#;

/// Writes the programs into `directory`.
pub(crate) fn install(directory: &Path) {
    let programs =
        [("bp-download", BP), ("curl", CURL), ("docker", DOCKER), ("aws", AWS), ("gh", GH), ("unzip", UNZIP)];
    for (name, text) in programs {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
