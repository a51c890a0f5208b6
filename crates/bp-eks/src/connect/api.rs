//! Call the EKS API for one cluster: `DescribeCluster`, endpoint, certificates, authentication mode.

use aws_sdk_eks::types::ClusterStatus;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::error::ConnectError;

/// An EKS cluster as `DescribeCluster` returns it: endpoint, certificate authority and authentication mode.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterInfo {
    /// The cluster's name.
    pub name: String,
    /// The URL of its Kubernetes API.
    pub endpoint: http::Uri,
    /// Its Kubernetes version, for example `1.34`.
    pub version: Option<String>,
    /// The certificates of its certificate authority, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// How callers are authenticated: `API` (access entries), `CONFIG_MAP` (the ConfigMap `aws-auth`) or
    /// `API_AND_CONFIG_MAP`.
    pub authentication_mode: Option<String>,
    /// The cluster identifier in tokens: its name, or the id of a local cluster on Outposts.
    pub(super) token_id: String,
}

/// The EKS API for one cluster.
#[derive(Clone)]
pub(super) struct EksApi {
    pub(super) eks: aws_sdk_eks::Client,
    pub(super) region: String,
    pub(super) cluster: String,
}

impl EksApi {
    /// Describes the cluster; fails unless it is active.
    pub(super) async fn describe(&self) -> Result<ClusterInfo, ConnectError> {
        let answer = self.eks.describe_cluster().name(&self.cluster).send().await;
        let answer = answer.map_err(|e| ConnectError::of_describe(&self.cluster, &self.region, e))?;
        let malformed =
            |reason: &'static str| ConnectError::Malformed { cluster: self.cluster.clone(), reason };
        let cluster = answer.cluster.ok_or_else(|| malformed("the response has no cluster"))?;
        let usable = [ClusterStatus::Active, ClusterStatus::Updating];
        if let Some(status) = cluster.status.filter(|status| !usable.contains(status)) {
            let status = status.as_str().to_owned();
            return Err(ConnectError::NotActive { cluster: self.cluster.clone(), status });
        }
        let endpoint = cluster.endpoint.ok_or_else(|| malformed("it has no endpoint yet"))?;
        let authority = cluster.certificate_authority.and_then(|authority| authority.data);
        let authority = authority.ok_or_else(|| malformed("it has no certificate authority yet"))?;
        Ok(ClusterInfo {
            endpoint: endpoint.parse().map_err(|_| malformed("its endpoint is not a valid URL"))?,
            version: cluster.version,
            authentication_mode: cluster
                .access_config
                .and_then(|access| access.authentication_mode)
                .map(|mode| mode.as_str().to_owned()),
            certificates: certificates(&authority)
                .ok_or_else(|| malformed("its certificate authority is not base64-encoded PEM"))?,
            token_id: cluster.id.unwrap_or_else(|| self.cluster.clone()),
            name: self.cluster.clone(),
        })
    }
}

/// Decodes base64-encoded PEM certificates to DER.
fn certificates(authority: &str) -> Option<Vec<Vec<u8>>> {
    let text = String::from_utf8(STANDARD.decode(authority.trim()).ok()?).ok()?;
    let mut found = Vec::new();
    for part in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (body, _) = part.split_once("-----END CERTIFICATE-----")?;
        let body: String = body.split_ascii_whitespace().collect();
        found.push(STANDARD.decode(body).ok()?);
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_base64_encoded_pem_certificates() {
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN CERTIFICATE-----\r\n{}\r\n-----END CERTIFICATE-----\r\n",
                STANDARD.encode(der)
            )
        };
        let two = STANDARD.encode(format!("# old and new\n{}{}", pem(b"old"), pem(b"new")));
        assert_eq!(certificates(&two), Some(vec![b"old".to_vec(), b"new".to_vec()]));
        for wrong in [
            "",
            "%%%",
            &STANDARD.encode("no certificate"),
            &STANDARD.encode("-----BEGIN CERTIFICATE-----\nAA"),
        ] {
            assert_eq!(certificates(wrong), None, "{wrong}");
        }
    }
}
