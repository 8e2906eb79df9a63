//! A network on a device, given candle's tensors in GPU memory or, for a device that computes there, numbers of the host.

use super::device_passes::DeviceArena;
use super::layers::Network;
use super::on_device::OnDevice;
use super::plan::Plan;
use crate::device;
use crate::error::Result;
use candle_core::{Device, Tensor};

impl OnDevice {
    /// The features (B, D) and outputs (B, d) of images, by running statistics; everything in GPU memory.
    pub fn evaluate_on_gpu(
        &self,
        network: &Network,
        plan: &Plan,
        x: &Tensor,
        theta: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let features = device::unset_tensor(x, &[plan.batch, network.features_dim()])?;
        let output = device::unset_tensor(x, &[plan.batch, network.output_dim()])?;
        device::with_spans([x, theta, &features, &output], |[x, theta, features, output]| {
            self.evaluate(network, plan, [x, theta], [features, output]).map_err(device::to_candle)
        })?;
        Ok((features, output))
    }

    /// The gradients of the input, where the network has one, and of θ; `[x, theta, dy]` in GPU memory.
    pub fn backward_on_gpu(
        &self,
        network: &Network,
        plan: &Plan,
        arena: &DeviceArena,
        [x, theta, dy]: [&Tensor; 3],
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let d_theta = device::unset_tensor(theta, theta.dims())?;
        let d_x = network.input_gradient.then(|| device::unset_tensor(x, x.dims())).transpose()?;
        // Where no gradient of the input is wanted, some span stands in its place and is not used.
        let last = d_x.as_ref().unwrap_or(&d_theta);
        device::with_spans([x, theta, dy, &d_theta, last], |[x, theta, dy, d_theta, last]| {
            let d_x = network.input_gradient.then_some(last);
            self.backward(network, plan, arena, [x, theta], dy, d_theta, d_x).map_err(device::to_candle)
        })?;
        Ok((d_x, Some(d_theta)))
    }

    /// [`OnDevice::evaluate`] in host memory.
    pub fn evaluate_in_place(
        &self,
        network: &Network,
        plan: &Plan,
        [x, theta]: [&[f32]; 2],
    ) -> Result<(Tensor, Tensor)> {
        let mut features = vec![0.0; plan.batch * network.features_dim()];
        let mut output = vec![0.0; plan.batch * network.output_dim()];
        let device = self.device();
        let inputs = [device.host_span(x)?, device.host_span(theta)?];
        let outputs = [device.host_span_mut(&mut features)?, device.host_span_mut(&mut output)?];
        self.evaluate(network, plan, inputs, outputs)?;
        let rows = |values: Vec<f32>| {
            let dim = values.len() / plan.batch;
            Tensor::from_vec(values, (plan.batch, dim), &Device::Cpu)
        };
        Ok((rows(features)?, rows(output)?))
    }

    /// [`OnDevice::train`] in host memory: the output, and what the backward pass needs.
    pub fn train_in_place(
        &self,
        network: &Network,
        plan: &Plan,
        [x, theta]: [&[f32]; 2],
    ) -> Result<(Vec<f32>, DeviceArena)> {
        let mut output = vec![0.0; plan.views * plan.batch * network.output_dim()];
        let device = self.device();
        let inputs = [device.host_span(x)?, device.host_span(theta)?];
        let arena = self.train(network, plan, inputs, device.host_span_mut(&mut output)?)?;
        Ok((output, arena))
    }

    /// [`OnDevice::backward`] in host memory.
    pub fn backward_in_place(
        &self,
        network: &Network,
        plan: &Plan,
        arena: &DeviceArena,
        [x, theta, dy]: [&[f32]; 3],
        d_theta: &mut [f32],
        d_x: Option<&mut [f32]>,
    ) -> Result<()> {
        let device = self.device();
        let inputs = [device.host_span(x)?, device.host_span(theta)?];
        let d_x = d_x.map(|d_x| device.host_span_mut(d_x)).transpose()?;
        let (dy, d_theta) = (device.host_span(dy)?, device.host_span_mut(d_theta)?);
        self.backward(network, plan, arena, inputs, dy, d_theta, d_x)
    }
}
