"""Labels and explanations of metrics, baselines and pictures on the report page."""

from __future__ import annotations

METRICS = {
    "nll": ("Negative log-likelihood (nats)", "−log p of each prediction; 0 is best"),
    "bpc": ("Bits per character", "the negative log-likelihood of a character, in bits; 0 is best"),
    "perplexity": ("Perplexity", "exp(nll): as uncertain as among so many equally likely choices"),
    "accuracy": (
        "Accuracy (fraction)",
        "texts: how often the most likely symbol was right; frames: correct notes of all notes",
    ),
    "accuracy_error": ("Accuracy, standard error (fraction)", "if other frames were chosen"),
    "note_accuracy": (
        "Accuracy of the note (fraction)",
        "how often the most likely note was the next message's",
    ),
    "velocity_accuracy": (
        "Accuracy of the velocity (fraction)",
        "how often the most likely velocity was the next message's",
    ),
    "time_accuracy": (
        "Accuracy of the time (fraction)",
        "how often the most likely time step was the next message's",
    ),
    "loss": ("Loss", "what the training minimises; for an RBM a difference of free energies"),
    "contrastive": ("Contrastive loss", "mean free energy of the data minus that of the chains"),
    "sparsity": ("Sparsity cost", "how far hidden units are from their target probability"),
    "capacity": ("Capacity", "the largest n such that every string up to n is predicted correctly"),
    "note": ("NLL of the note (nats)", "−log p of the next message's note"),
    "velocity": ("NLL of the velocity (nats)", "−log p of the next message's velocity"),
    "time": ("NLL of the time (nats)", "−log p of the time until the next message"),
    "monitor": (
        "The tutorial's monitor (nats)",
        "log p of the frames under the mean field after the Gibbs chain; not a likelihood",
    ),
    "log_likelihood": (
        "Log-likelihood (nats)",
        "log p of a frame or image, 0 is best; for RBMs an estimate by AIS, biased upward",
    ),
    "log_likelihood_error": (
        "Log-likelihood, standard error (nats)",
        "of the mean over frames or pieces, and of AIS",
    ),
    "log_likelihood_raise": (
        "Log-likelihood, conservative estimate (nats)",
        "RAISE, by reverse AIS from the data; the gap to the estimate by AIS says how far to trust",
    ),
    "log_likelihood_upper_estimate": (
        "Log-likelihood, upper estimate (nats)",
        "by AIS with a fixed number of steps, which biases it upward",
    ),
    "log_likelihood_repeated_context": (
        "Log-likelihood after repeated contexts (nats)",
        "of frames whose last 8 frames occur earlier in the piece",
    ),
    "log_likelihood_new_context": (
        "Log-likelihood after new contexts (nats)",
        "of frames whose last 8 frames do not occur earlier in the piece",
    ),
    "log_likelihood_unshared": (
        "Log-likelihood of unshared pieces (nats)",
        "of pieces that share no 16 frames of their top line with training pieces",
    ),
    "log_likelihood_mostly_unshared": (
        "Log-likelihood of mostly unshared pieces (nats)",
        "of pieces that share at most half of their top line with training pieces",
    ),
    "repeated_context": (
        "Repeated contexts",
        "fraction of frames whose last 8 frames occur earlier",
    ),
    "pieces_unshared": ("Unshared pieces", "how many share no top line with training pieces"),
    "pieces_mostly_unshared": ("Mostly unshared pieces", "how many share at most half of it"),
    "frames": ("Frames", "how many frames were evaluated"),
    "reverse_gap_error": (
        "Gap between the directions of AIS, standard error (nats)",
        "of the mean difference between forward and reverse AIS",
    ),
    "ais_steps": ("AIS steps", "how many annealing steps the estimate converged with"),
    "last_change": ("Last change (nats)", "of the estimate, when the AIS steps were tripled"),
    "log_z": ("log Z (nats)", "the logarithm of the partition function, by forward AIS"),
    "log_z_error": ("log Z, standard error (nats)", "over the chains of forward AIS"),
    "log_z_reverse": ("log Z, reverse (nats)", "by reverse AIS from the data; usually too high"),
    "log_z_reverse_error": ("log Z, reverse, standard error (nats)", "over the start examples"),
    "effective_chains": ("Effective chains", "how many AIS chains carry weight; few: do not trust"),
    "pseudo_likelihood": (
        "Pseudo-log-likelihood (nats)",
        "the sum of log p of each bit given all other bits; 0 is best",
    ),
    "reconstruction": (
        "Reconstruction cross-entropy (nats)",
        "between the data and the mean field one Gibbs step later; 0 is best",
    ),
    "cross_entropy": ("Cross-entropy (nats)", "of the recurrent network's own predictions"),
    "free_energy": ("Free energy (nats)", "the mean F(v) = −log p(v) − log Z of the examples"),
    "free_energy_gap": (
        "Free-energy gap (nats)",
        "validation minus training; it grows when the RBM overfits",
    ),
    "gain": (
        "Gain over the best n-gram (bits per character)",
        "bits per character of the n-gram minus the model's; above 0, the model is better",
    ),
    "gain_error": ("Gain, standard error (bits per character)", "if other names were drawn"),
    "novel": ("Novel names (fraction)", "generated names that are not in training"),
    "distinct": ("Distinct names (fraction)", "different names among the generated ones"),
    "recognised": (
        "Recognised names (fraction)",
        "generated names that an n-gram classifier assigns to their label",
    ),
    "recognised_real": (
        "Recognised training names (fraction)",
        "the same for names of the training split, as a reference",
    ),
    "order": (
        "Order of the best n-gram",
        "how many characters it looks at, with the predicted one",
    ),
}
"""(label, explanation) by metric name. A metric of another name is labelled with its name."""
BASELINES = {
    "unigram": "unigram: the frequencies of the training split, without context",
    "ngram": "best n-gram: the order that is best on validation",
    "random": "random: every note is on with probability ½",
    "note_1gram": "note 1-gram: the frequency of each note",
    "note_ngram": "best note n-gram: each note given its own last frames",
    "base_rate": "independent units: the frequency of each unit",
}
"""Explanations by baseline."""
PICTURES = {
    "units": "Every hidden unit while the network reads the text",
    "outputs": "The probability of each next symbol, step by step",
    "states": "The path through the state space, with decision lines and fixed points",
    "gates": "The gates and the cell of the LSTM, step by step",
    "filters": "The weights of each hidden unit, as a picture of the visible units",
    "sheet": "Samples: each column is a Gibbs chain, time goes down",
    "chains": "Gibbs chains that start at test examples; time goes down",
    "reconstructions": "Test examples, and below them their reconstructions",
}
"""What is in a picture, by the name of its file."""


def metric_label(name: str) -> str:
    """`nll` → Negative log-likelihood (nats); `my_score` → My score."""
    return METRICS[name][0] if name in METRICS else in_words(name)


def explanation(name: str) -> str:
    """One line on what a metric means; empty for a metric of another name."""
    return METRICS[name][1] if name in METRICS else ""


def picture_label(name: str) -> str:
    """`dissection/units` → what is in it; empty for a picture of another name."""
    return PICTURES.get(name.rpartition("/")[2], "")


def in_words(name: str) -> str:
    """`batch_size` → Batch size."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
