"""Labels of metrics on the report page."""

from __future__ import annotations

LABELS = {
    "nll": "Negative log-likelihood (nats)",
    "bpc": "Bits per character",
    "perplexity": "Perplexity",
    "accuracy": "Accuracy (fraction)",
    "accuracy_error": "Accuracy, standard error (fraction)",
    "note_accuracy": "Accuracy of the note (fraction)",
    "velocity_accuracy": "Accuracy of the velocity (fraction)",
    "time_accuracy": "Accuracy of the time (fraction)",
    "loss": "Loss",
    "capacity": "Capacity (largest n with no error up to n)",
    "note": "NLL of the note (nats)",
    "velocity": "NLL of the velocity (nats)",
    "time": "NLL of the time (nats)",
    "log_likelihood": "Log-likelihood (nats)",
    "log_likelihood_error": "Log-likelihood, standard error (nats)",
    "log_likelihood_raise": "Log-likelihood, conservative estimate (RAISE, nats)",
    "log_z": "log Z, AIS estimate (nats)",
    "log_z_error": "log Z, standard error (nats)",
    "log_z_reverse": "log Z, reverse AIS estimate (nats)",
    "log_z_reverse_error": "log Z, reverse AIS, standard error (nats)",
    "pseudo_likelihood": "Pseudo-log-likelihood (nats)",
    "reconstruction": "Reconstruction cross-entropy (nats)",
    "gain": "Gain over the best n-gram (bits per character)",
    "gain_error": "Gain, standard error (bits per character)",
    "novel": "Generated names not in training (fraction)",
    "distinct": "Distinct generated names (fraction)",
    "recognised": "Generated names classified as their label (fraction)",
    "recognised_real": "Training names classified as their label (fraction)",
    "order": "Order of the best n-gram",
}
"""Labels by metric name. Other metrics are labelled with their names."""


def metric_label(name: str) -> str:
    """`nll` → Negative log-likelihood (nats); `free_energy` → Free energy."""
    if name in LABELS:
        return LABELS[name]
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
