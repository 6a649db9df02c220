//! `dinnerbell config reference|show|check`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigFile, Failure, Json, output};
use dinnerbell_config::{Settings, check, environment, show};

/// Show the configuration reference, the values in force, or all mistakes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell config check -c dinnerbell.toml")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key with its meaning, default and environment variable, as a file to start from
    #[command(after_help = "Example:\n  dinnerbell config reference > dinnerbell.toml")]
    Reference {
        /// Taken as by every command; what the file holds changes nothing here
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        json: Json,
    },
    /// Print what is in force and where each value comes from; secrets are masked
    #[command(after_help = "Example:\n  DINNERBELL_FANOUT__ROUND_ROWS=5000 dinnerbell config show -c dinnerbell.toml")]
    Show {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        json: Json,
    },
    /// Find every mistake, without contacting anything; exit status 2 if there is one
    #[command(after_help = "Example:\n  dinnerbell config check -c dinnerbell.toml")]
    Check {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        json: Json,
    },
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::Reference { json: Json { json: true }, .. } => output::print_json(&show::reference_json()),
            Command::Reference { json: Json { json: false }, .. } => output::print(&show::reference()),
            Command::Show { file, json } => show(&file, json),
            Command::Check { file, json } => check(&file, json),
        }
    }
}

fn show(file: &ConfigFile, json: Json) -> Result<(), Failure> {
    let settings = Settings::gather(file.file.as_deref(), environment());
    check::check(&settings)?;
    if json.json { output::print_json(&show::show_json(&settings)) } else { output::print(&show::show(&settings)) }
}

fn check(file: &ConfigFile, json: Json) -> Result<(), Failure> {
    let settings = Settings::gather(file.file.as_deref(), environment());
    let checked = check::check(&settings);
    if json.json {
        let mistakes: Vec<_> = checked
            .as_ref()
            .err()
            .iter()
            .flat_map(|errors| &errors.0)
            .map(|mistake| {
                let origin = mistake.origin.as_ref().map(ToString::to_string);
                json!({ "key": mistake.key, "given_in": origin, "problem": mistake.problem })
            })
            .collect();
        output::print_json(&json!({ "file": settings.file, "ok": checked.is_ok(), "mistakes": mistakes }))?;
        return checked.map(|_| ()).map_err(|_| Failure::Reported(2));
    }
    checked?;
    let source = match &settings.file {
        Some(file) => format!("{} and the environment are", file.display()),
        None => "no file was found; the environment is".to_owned(),
    };
    output::print(&format!("{source} a complete configuration without a mistake\n"))
}
