"""What a form is fed when it is calibrated or compared."""

from __future__ import annotations

from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_norms
from ocl_edge.method.norms import prior_of_channels
from ocl_edge.network.forms import FormName, distinct_form


def inputs_of_form(bundle: Bundle, form: FormName, images: Tensor) -> dict[str, Tensor]:
    """A form's inputs for some images: source norm vectors, or source statistics at the bundle's prior.

    Args:
        bundle: whose norms.
        form: whose inputs.
        images: float32 [N, 3, H, W], normalised.
    """
    form = distinct_form(form, bundle.manifest.norms)
    source = load_norms(bundle)
    if form == "modulated":
        return {"image": images, "norm_vectors": source.vectors(source.statistics)}
    if form == "measured":
        manifest = bundle.manifest
        prior = prior_of_channels([n.channels for n in manifest.norms], manifest.adaptation.prior)
        return {"image": images, "anchor_statistics": source.statistics, "anchor_weight": prior}
    return {"image": images}
