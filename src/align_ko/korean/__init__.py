"""Is it natural Korean? Pure text, no torch: `from align_ko.korean import assess`."""

from align_ko.korean.leaks import control_mark
from align_ko.korean.naturalness import FAULT_CODES, WEIGHTS, assess, assess_each
from align_ko.korean.repetition import Loop, cut_loop, duplicate_sentences, filler, first_loop
from align_ko.korean.set_measures import SetMeasures, measure
from align_ko.korean.speech_level import document_level, sentence_level
from align_ko.records import Assessment, Fault

__all__ = [
    "FAULT_CODES",
    "WEIGHTS",
    "Assessment",
    "Fault",
    "Loop",
    "SetMeasures",
    "assess",
    "assess_each",
    "control_mark",
    "cut_loop",
    "document_level",
    "duplicate_sentences",
    "filler",
    "first_loop",
    "measure",
    "sentence_level",
]
