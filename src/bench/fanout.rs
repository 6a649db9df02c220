//! One campaign with a large audience, one lane: from its append until both sinks are complete, against the roofline.

use std::time::Instant;

use super::bell::{Bell, WARM_UP_AUDIENCE, campaign, warm_up};
use super::ground::{Ground, Stage};
use super::instance::Instance;
use super::report::{FanOut, FanOutRun, Service};
use super::{BenchError, Plan, roofline, sinks, tell};

/// Every audience, as often as the plan says.
pub async fn measure(ground: &Ground<'_>, plan: &Plan) -> Result<Vec<FanOut>, BenchError> {
    let mut measured = Vec::new();
    for audience in &plan.audiences {
        let mut runs = Vec::new();
        for number in 1..=plan.repeat {
            tell(&format!("fanout to {audience}, run {number} of {}", plan.repeat));
            runs.push(once(ground, plan, *audience).await?);
        }
        measured.push(FanOut::of(*audience, runs));
    }
    Ok(measured)
}

async fn once(ground: &Ground<'_>, plan: &Plan, audience: usize) -> Result<FanOutRun, BenchError> {
    let restaurant = format!("audience-{audience}");
    let stage = ground.stage(1).await?;
    stage.seed(&restaurant, audience).await?;
    let roofline = roofline::measure(&stage, &restaurant, plan.partitions).await?;
    let service = service(&stage, &restaurant, audience).await?;
    sinks::hold(&stage, plan.partitions, audience + WARM_UP_AUDIENCE).await?;
    stage.end().await?;
    Ok(FanOutRun::of(audience, roofline, service))
}

async fn service(stage: &Stage<'_>, restaurant: &str, audience: usize) -> Result<Service, BenchError> {
    let mut instance = Instance::start(stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    bell.ring(&warm_up(0), 0).await?;
    let before = instance.published(WARM_UP_AUDIENCE).await?;
    let began = Instant::now();
    bell.ring(&campaign("fanout", restaurant), 0).await?;
    let after = instance.published(WARM_UP_AUDIENCE + audience).await?;
    let took = began.elapsed();
    let service = Service::of(audience, took, &before, &after, instance.peak_memory()?);
    instance.stop();
    Ok(service)
}
