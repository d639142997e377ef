"""What a form is fed when it is calibrated or compared."""

from __future__ import annotations

from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_norms
from ocl_edge.method.mixing import Mixing
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import inputs_of
from ocl_edge.network.forms import distinct_form


def inputs_of_form(bundle: Bundle, form: FormName, images: Tensor) -> dict[str, Tensor]:
    """A form's inputs for some images: trained norm vectors, or trained statistics at the bundle's prior.

    Args:
        bundle: whose norms.
        form: whose inputs.
        images: float32 [N, 3, H, W], normalised.
    """
    norms, source = bundle.manifest.norms, load_norms(bundle)
    mixing = Mixing.of_prior([norm.channels for norm in norms], bundle.manifest.adaptation.prior)
    statistics, weight = source.statistics, mixing.at(1.0)[: bundle.manifest.weight_rows]
    return inputs_of(distinct_form(form, norms), images, source.vectors(statistics), statistics, weight)
