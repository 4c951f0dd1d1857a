//! `modtool adapt`: learns a domain from labelled pictures, proves it, and puts it in use by steps.

mod examples;
mod learn;
mod list;
mod switch;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::exit_code::ExitCode;

/// Learn from decisions or labelled pictures what a policy's words don't say
///
/// Without a subcommand it learns, from stored vectors, in seconds, without a GPU. What was learned
/// is kept only when it is better than the words alone on pictures that were held out, by the
/// 95 % interval; it belongs to one policy, its prompts and one model. Then `adapt use NAME` lets it
/// run in the background, `adapt show NAME` lists what would change, `adapt use NAME --live` puts
/// it in force, and `adapt rollback` takes the last step back.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AdaptArgs {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    learn: learn::LearnArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    List(list::ListArgs),
    Show(list::ShowArgs),
    Use(switch::UseArgs),
    Rollback(switch::RollbackArgs),
    Remove(switch::RemoveArgs),
}

pub(super) async fn run(args: AdaptArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.what {
        None => learn::run(&args.learn, config).await,
        Some(What::List(args)) => list::list(&args, config),
        Some(What::Show(args)) => list::show(&args, config).await,
        Some(What::Use(args)) => switch::put_in_use(&args, config).await,
        Some(What::Rollback(args)) => switch::rollback(&args, config).await,
        Some(What::Remove(args)) => switch::remove(&args, config).await,
    }
}
