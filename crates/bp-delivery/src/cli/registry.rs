//! Arguments for the access to registries.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use bp_artifact::{Registry, time::parse_duration};
use bp_promote::registry::Login;
use clap::Args;

use crate::{Failure, registries::RegistryOptions};

/// How to connect to registries.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectionArgs {
    /// Use plain HTTP for this registry; repeatable; not needed for loopback addresses
    #[arg(long = "plain-http", value_name = "HOST")]
    plain_http: Vec<Registry>,
    /// Also trust the root certificates in this PEM file
    #[arg(long, value_name = "FILE", env = "BP_CA_FILE")]
    ca: Option<PathBuf>,
    /// Client certificate for mutual TLS: a PEM file with the certificate, its chain and its private key
    #[arg(long, value_name = "FILE", env = "BP_CLIENT_CERT_FILE")]
    client_cert: Option<PathBuf>,
    /// How often a failed request to a registry is retried; 0 disables retries [default: 7]
    #[arg(long, value_name = "COUNT")]
    retries: Option<u16>,
}

impl ConnectionArgs {
    /// Converts the arguments to options.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn options(&self) -> Result<RegistryOptions, Failure> {
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| bp_artifact::file::read(path).map_err(|error| unreadable(path, &error)))
                .transpose()
        };
        Ok(RegistryOptions {
            plain_http: self.plain_http.clone(),
            root_certificates: read(&self.ca)?,
            client_certificate: read(&self.client_cert)?,
            retries: self.retries.map(usize::from),
            ..RegistryOptions::default()
        })
    }
}

/// How to connect to registries and to log in.
#[derive(Debug, Clone, Default, Args)]
pub struct RegistryArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Login for a registry, instead of a stored one; repeatable. Other users of this machine can see it in the list of
    /// processes: prefer the variable, or login
    #[arg(long, value_name = "HOST=USER:PASSWORD", env = "BP_CREDS", hide_env_values = true)]
    creds: Vec<Creds>,
    #[command(flatten)]
    authfile: AuthfileArgs,
}

/// The time limit of a command that only reads.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadingTimeArgs {
    /// How long the command may take: 90s, 15m, 1h30m; by default there is no limit
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl ReadingTimeArgs {
    /// Runs the work of a command within the limit.
    ///
    /// # Errors
    /// Those of the work; [`ExitCode::Unavailable`](bp_artifact::ExitCode::Unavailable) when it takes longer.
    ///
    /// # Permissions
    /// Those of the work.
    ///
    /// # Cancel safety
    /// That of the work, which is dropped when the time is over.
    pub async fn limit<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(timeout) = self.timeout else { return work.await };
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            Err(Failure::unavailable(format!("reading takes longer than {timeout:?} (--timeout)")))
        })
    }
}

/// The file of logins.
#[derive(Debug, Clone, Default, Args)]
pub struct AuthfileArgs {
    /// Use only this file of logins, in the format of docker and podman
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// Converts the arguments to options.
    ///
    /// # Errors
    /// When a file cannot be read, or a login is not of the form `HOST=USER:PASSWORD`.
    pub fn options(&self) -> Result<RegistryOptions, Failure> {
        let mut options = self.connection.options()?;
        for creds in &self.creds {
            let (registry, login) = creds.parse()?;
            options.logins = options.logins.with(registry, login);
        }
        if let Some(path) = &self.authfile.authfile {
            std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
            options.auth_file = Some(path.clone());
        }
        Ok(options)
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::bad_input(format!("cannot open {}: {error}", path.display()))
}

/// `HOST=USER:PASSWORD`. Parsed late, since clap quotes values that it cannot parse.
#[derive(Clone)]
struct Creds(String);

impl Creds {
    fn parse(&self) -> Result<(Registry, Login), Failure> {
        let parts = self.0.split_once('=').and_then(|(host, pair)| Some((host, pair.split_once(':')?)));
        match parts {
            Some((host, (user, password))) if !user.is_empty() && !password.is_empty() => {
                Ok((host.parse()?, Login::password(user, password)))
            }
            _ => Err(Failure::bad_input("--creds is not of the form HOST=USER:PASSWORD")),
        }
    }
}

impl FromStr for Creds {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Creds(text.to_owned()))
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(login)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_on_the_command_line_are_never_quoted() {
        for (text, is_valid) in [
            ("r.example.com:5000=ci:pa=s:s", true),
            ("ci:secret", false),
            ("r.example.com=ci", false),
            ("r.example.com=:secret", false),
            ("r.example.com=ci:", false),
            ("not a host=ci:secret_", false),
        ] {
            let parsed = Creds(text.to_owned()).parse();
            assert_eq!(parsed.is_ok(), is_valid, "{text}");
            let shown = format!("{:?} {parsed:?}", Creds(text.to_owned()));
            assert!(!shown.contains("secret_") && !shown.contains("pa=s"), "{shown}");
        }
    }
}
