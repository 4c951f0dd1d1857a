//! What can be typed before or after any subcommand; each subcommand's own arguments stand in
//! its file below `commands`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

/// Options that every subcommand takes.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// Folder with policies/, modtool.yaml, modtool.db and quarantine/
    #[arg(long, global = true, value_name = "DIR", env = "MODTOOL_WORKSPACE", default_value = ".")]
    pub workspace: PathBuf,

    /// Folder that holds models and the ONNX Runtime [default: the platform's data folder]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MODTOOL_DATA_DIR",
        hide_short_help = true
    )]
    pub data_dir: Option<PathBuf>,

    /// Model to use, by name or by folder [default: what modtool.yaml says, else builtin]
    #[arg(long, global = true, value_name = "NAME", env = "MODTOOL_MODEL", hide_short_help = true)]
    pub model: Option<String>,

    /// Engine that runs the model
    #[arg(
        long,
        global = true,
        value_enum,
        env = "MODTOOL_ENGINE",
        default_value_t,
        hide_short_help = true
    )]
    pub engine: Engine,

    /// Where the model computes [default: what modtool.yaml says, else auto]
    #[arg(long, global = true, value_enum, hide_short_help = true)]
    pub device: Option<Device>,

    /// Threads of the model; 0: as many as there are cores
    #[arg(long, global = true, value_name = "N", hide_short_help = true)]
    pub threads: Option<usize>,

    /// Pictures that the model takes at once, 1 to 256
    #[arg(
        long,
        global = true,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256),
        hide_short_help = true
    )]
    pub batch: Option<u16>,

    /// ONNX Runtime library to try first
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub onnxruntime: Option<PathBuf>,

    /// Use folders and files that others may write, watch a folder that holds the workspace, and
    /// stay root in another user's workspace. Whoever can write them decides what modtool does
    #[arg(
        long,
        global = true,
        env = "MODTOOL_ALLOW_SHARED_WORKSPACE",
        value_parser = FalseyValueParser::new(),
        hide_short_help = true
    )]
    pub allow_shared_workspace: bool,

    /// Form of the log lines on standard error
    #[arg(long, global = true, value_enum, default_value_t, hide_short_help = true)]
    pub log_format: LogFormat,

    /// Say more (twice: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Engine {
    /// ONNX Runtime when a working one is found, tract otherwise
    #[default]
    Auto,
    /// ONNX Runtime, or fail
    Onnxruntime,
    /// The built-in pure-Rust engine: slower, always there
    Tract,
}

/// Where a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A GPU where the engine can use one, the processor otherwise
    Auto,
    /// The processor
    Cpu,
    /// An NVIDIA GPU, or fail
    Cuda,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Form of what a command prints on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object a line
    Json,
}
