//! The command line: verbs, flags, the environment and exit codes.
//!
//! The environment is read here and nowhere else, through the flags it stands for. Tables have stable columns and no
//! colour; text that comes from a server is stripped of what could steer a terminal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::app;
use crate::config::{self, Overrides};

mod admin;
mod bootstrap;
mod check;
mod compare;
mod diff;
mod explain;
mod failure;
mod output;
mod register;
mod services;
mod status;
mod xds;

pub use failure::Failure;

/// Service registries in, xDS out.
#[derive(Debug, Parser)]
#[command(name = "leadsman", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the registries and serve Envoy.
    Serve(Serve),
    /// Say everything that is wrong with a configuration file.
    ///
    /// Exits with 0 when there is nothing to say, 65 when the file can't be used, 79 when it can and something is
    /// worth a look.
    Check(check::Check),
    /// Print an Envoy bootstrap.
    Bootstrap(bootstrap::Bootstrap),
    /// Say whether every source is live and every proxy up to date.
    ///
    /// Exits with 79 when one is not.
    Status(status::Status),
    /// Say how what an Envoy holds differs from what the server has for it.
    ///
    /// Exits with 79 when it does.
    Diff(diff::Diff),
    /// Say of every endpoint of a service why it is there, or is not.
    Explain(explain::Explain),
    /// List the services.
    Services(services::Services),
    /// List what Envoy is told about one service.
    Endpoints(services::Endpoints),
    /// Say how two sources differ: who misses which instance, weight and status.
    ///
    /// Exits with 79 when they do.
    Compare(compare::Compare),
    /// List the connected proxies.
    Proxies(status::Proxies),
    /// Register an instance with the registry of a Leadsman, and keep it registered until SIGTERM.
    ///
    /// Then it is drained, and deregistered. Ends with 69 when the server can't be reached in time, and with 1 when
    /// somebody else registers under the same id.
    Register(Box<register::Register>),
    /// Speak xDS.
    #[command(subcommand)]
    Xds(xds::Verb),
    /// Print what a configuration file may say.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// What to log to standard error: a level, or directives such as `leadsman_registry=debug,info`.
    #[arg(long, value_name = "FILTER", env = "LEADSMAN_LOG", default_value = "info")]
    log: String,
}

/// The configuration file and what is laid over it.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "LEADSMAN_CONFIG",
        default_value = "leadsman.yaml"
    )]
    config: PathBuf,
    /// In place of `node.id`.
    #[arg(long, value_name = "ID", env = "LEADSMAN_NODE_ID")]
    node_id: Option<String>,
    /// In place of `xds.listen`.
    #[arg(long, value_name = "IP:PORT", env = "LEADSMAN_XDS_LISTEN")]
    xds_listen: Option<SocketAddr>,
    /// In place of `admin.listen`.
    #[arg(long, value_name = "IP:PORT", env = "LEADSMAN_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
}

impl ConfigFile {
    fn overrides(&self) -> Overrides {
        Overrides {
            node_id: self.node_id.clone(),
            xds_listen: self.xds_listen,
            admin_listen: self.admin_listen,
        }
    }
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print every key with its default and its meaning: a file to start from.
    Defaults,
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { failure::USAGE } else { 0 };
            // Without a terminal to print to, the exit code still tells.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match dispatch(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.code()
        }
    }
}

fn dispatch(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve(serve) => {
            let options = app::ServeOptions {
                overrides: serve.file.overrides(),
                config: serve.file.config,
                log: serve.log,
            };
            let runtime = tokio::runtime::Runtime::new().map_err(Failure::from_error)?;
            let served = runtime.block_on(app::serve(options)).map_err(Failure::from);
            // A read of a file that hangs must not keep the process from ending.
            runtime.shutdown_background();
            served
        }
        Verb::Check(check) => check.run(),
        Verb::Bootstrap(bootstrap) => bootstrap.run(),
        Verb::Status(status) => wait(status.run()),
        Verb::Diff(diff) => wait(diff.run()),
        Verb::Explain(explain) => wait(explain.run()),
        Verb::Services(services) => wait(services.run()),
        Verb::Endpoints(endpoints) => wait(endpoints.run()),
        Verb::Compare(compare) => wait(compare.run()),
        Verb::Proxies(proxies) => wait(proxies.run()),
        Verb::Register(register) => wait(register.run()),
        Verb::Xds(xds::Verb::Watch(watch)) => wait(watch.run()),
        Verb::Config(ConfigVerb::Defaults) => output::print(config::DEFAULTS),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "leadsman", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Verb::Version => output::print(&format!("leadsman {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// One thread is enough for a client.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from_error)?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn code(line: &[&str]) -> ExitCode {
        let cli = Cli::try_parse_from(std::iter::once(&"leadsman").chain(line)).unwrap();
        dispatch(cli.verb).map_or_else(|failure| failure.code(), |()| ExitCode::SUCCESS)
    }

    #[test]
    fn a_script_can_tell_a_good_file_from_a_doubtful_and_a_bad_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("leadsman.yaml");
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let plain = code(&["check", "-c", path.to_str().unwrap()]);
            assert_eq!(plain, code(&["check", "-o", "json", "-c", path.to_str().unwrap()]));
            plain
        };
        assert_eq!(check("nodes: {}"), ExitCode::from(65));
        assert_eq!(
            check("node: { id: a }"),
            ExitCode::from(79),
            "the directory of the files does not exist"
        );
        std::fs::create_dir(folder.path().join("services")).unwrap();
        assert_eq!(check("node: { id: a }"), ExitCode::SUCCESS);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(code(&["check", "-c", path.to_str().unwrap()]), ExitCode::from(65));
    }

    #[test]
    fn a_server_that_is_not_there_is_69_for_every_verb_that_asks_one() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let url = format!("http://{closed}");
        let asking: [&[&str]; 8] = [
            &["status"],
            &["services"],
            &["endpoints", "orders"],
            &["explain", "orders"],
            &["proxies"],
            &["proxies", "edge-1"],
            &["diff", "--envoy-admin", &url],
            &["diff", "--envoy-admin", &url, "--node", "edge-1"],
        ];
        for line in asking {
            assert_eq!(
                code(&[line, &["--server", &url]].concat()),
                ExitCode::from(69),
                "{line:?}"
            );
        }
        let register = ["register", "a", "--address", "127.0.0.1:1", "--wait", "0s", "--server"];
        assert_eq!(code(&[&register[..], &[&url]].concat()), ExitCode::from(69));
        assert_eq!(code(&[&register[..], &["ftp://a"]].concat()), ExitCode::from(64));
        assert_eq!(code(&["xds", "watch", "--server", &closed]), ExitCode::from(69));
        assert_eq!(code(&["xds", "watch", "--server", "a b"]), ExitCode::from(64));
        assert_eq!(code(&["services", "--server", "ftp://a"]), ExitCode::from(64));
        assert_eq!(code(&["diff", "--envoy-admin", "ftp://a"]), ExitCode::from(64));
    }

    #[test]
    fn every_verb_and_flag_says_what_it_does() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                let silent = argument.get_help().is_none() && argument.get_id() != "shell";
                assert!(!silent, "{path} {}", argument.get_id());
            }
            command.get_subcommands().for_each(|command| check(command, &path));
        }
        check(&Cli::command(), "");
    }
}
