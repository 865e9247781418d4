//! `leadsman check`.

use clap::ValueEnum;
use leadsman_core::model::ServiceName;
use serde::Serialize;

use super::{ConfigFile, Failure, output};
use crate::config::{self, Config, Problem, Reading};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    /// Whether a server would start with it.
    usable: bool,
    problems: &'a [Problem],
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let reading = config::read(&self.file.config, &self.file.overrides());
        match self.output {
            Format::Text => self.text(&reading),
            Format::Json => {
                output::print(&output::json(&Answer {
                    file: self.file.config.display().to_string(),
                    usable: reading.config.is_some(),
                    problems: &reading.problems.problems,
                })?)?;
                if reading.config.is_none() {
                    return Err(Failure::BadInput(String::new()));
                }
                findings(&reading)
            }
        }
    }

    fn text(&self, reading: &Reading) -> Result<(), Failure> {
        let Some(config) = &reading.config else {
            return Err(Failure::BadInput(reading.problems.to_string()));
        };
        output::print(&format!(
            "{}{}: ok: {}\n",
            reading.problems,
            self.file.config.display(),
            summary(config)
        ))?;
        findings(reading)
    }
}

fn findings(reading: &Reading) -> Result<(), Failure> {
    if reading.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Findings)
    }
}

fn summary(config: &Config) -> String {
    let sources: Vec<String> = config
        .sources
        .iter()
        .map(|(name, source)| format!("{name} ({})", source.kind()))
        .collect();
    let services: Vec<&ServiceName> = config.services.names().collect();
    format!(
        "node {}, xds {}{}, admin {}, sources {}, {} with settings of their own",
        config.node.id,
        config.xds.listen,
        if config.xds.tls.is_some() { " (tls)" } else { "" },
        config.admin.listen,
        sources.join(", "),
        match services.len() {
            1 => "1 service".to_owned(),
            count => format!("{count} services"),
        }
    )
}
