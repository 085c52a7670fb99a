"""Why a row, a prompt or a pair is dropped, how the mixture came about, which checkpoint is best: the sentences of files and
reports, as templates. report/korean.py has each in Korean."""

# -------------------- a row that cannot be read (sources, json_rows, turns, adapters)

BAD_JSON = "not valid JSON: {}"
BAD_JSON_AT = "not valid JSON: {} (column {})"
NO_JSON = "not readable as JSON: {}"
NOT_TEXT_AT = "contains bytes that are no text in this file's encoding (column {})"
NOT_TEXT = "contains bytes that are no text in this file's encoding"
AFTER_ARRAY = "text after the end of the JSON array"
CUT_ARRAY = "the file ends inside the array: it was cut off"
BAD_CSV = "not valid CSV: {}"
FIELDS = "number of fields differs from the header's"
OPEN_QUOTE = "a quotation mark that is not closed on its line"
HEADER_AGAIN = "the header once more"
BAD_PARQUET = "not readable as Parquet: {}"
BAD_ARROW = "not readable as Arrow: {}"
BAD_VALUE = "a value of this row cannot be read: {}"

ROW_IS = "the row is {}, expected an object"
VALUE_IS = "'{}' is {}, expected text"
NO_LIST = "'{}' is missing, expected a list"
LIST_IS = "'{}' is {}, expected a list"
MESSAGE_IS = "message {} is {}, expected an object"
NO_ROLE = "message {} has no role"
PART_IS = "content of message {} has a part of type {!r}, expected text"
TOOL_CALL = "content of message {} is {} (it calls a tool), expected text"
CONTENT_IS = "content of message {} is {}, expected text"
IS_PAIR = "it is a preference pair, which pairs and DPO read"
NO_ADAPTER = "no adapter fits the keys ({}); name columns in the recipe"
NO_KEY = "'{}' is missing"
ROW_WEIGHT = "the row's weight is 0"
ANSWER_WEIGHTS = "every answer has weight 0"
NO_GROUP = "source {!r} stands in no group; add it under `groups` in the recipe"

# -------------------- a row that a filter drops

NO_TURN = "no user or assistant message"
WRONG_TURN = "turn {} is {!r}, expected {!r}"
NO_ANSWER = "the last turn is the user's, with no answer"
SAYS_NOTHING = "message {} ({}) says nothing"
TOO_SHORT = "{} of {} characters, at least {} wanted"
TOO_LONG = "{} of {} characters, at most {} wanted"
PERSONAL_DATA = "message {} ({}): {}"
SWEARS = "{!r} is on the list of swear words"
REFUSES = "refuses without a reason: …{}…"
LEAKS = "message {} ({}) contains {}"
SHARES_NO_WORD = "answer {} shares no word with its question: …{}…"
OF_ANSWER = "answer {}: {}"
OVERLAPS = "{:.2f} like the evaluation prompt {!r}"
SAYS_THE_SAME = "says the same as {}:{}"
NEARLY_THE_SAME = "the {} is {:.2f} like that of {}:{}, which scores no worse"
IRRELEVANT = "{:.2f} nats a token by its question, at least {:g} wanted"

# -------------------- how many rows of each group are taken

SHORT = "{}: {:,} rows wanted, {:,} there."
ENOUGH = "There are rows enough: {:,} are taken at the wanted weights."
UPSAMPLED = "Short groups are repeated (upsample): {:,} rows."
ALL_TAKEN = "Every row there is is taken (fill): {:,} of {:,} rows, so the weights become {}."
FILLED = "The other groups fill the total (fill): {:,} of {:,} rows, so the weights become {}."
SHRUNK = "The weights are kept and the total shrinks (shrink): {:,} of {:,} rows."
NO_ROWS = "No rows at all in {}: the other groups share its weight."
NO_WEIGHT = "No weight for {}: its rows are left out."
MORE_SOURCES = "{:,} more"

# -------------------- a pair that is not made

GREEDY_IS_GOOD = "greedy answer is as good"
NO_CHOSEN = "no natural candidate, and no reference"
REFERENCES_FULL = "no natural candidate, and the share of references is full"
SAME_SIDES = "both sides nearly the same"
SHORT_SIDE = "rejected side much shorter: DPO would learn length"
SHARED_FILLER = "both sides share the filler"
GENERIC = "chosen answer is generic: other prompts are answered so too"
CONTRASTS_FULL = "share of contrasts is full"
CANDIDATES_FULL = "share of candidates is full"
FAULT_FULL = "share of {} is full"
HELD_OUT = "an evaluation prompt, or too near to one"
UNNATURAL_ORIGINAL = "synthetic: the answer to spoil is not natural itself"
SPOILT_LENGTH = "synthetic: rejected side much shorter: DPO would learn length"
NOT_SPOILT = "synthetic: assess finds no {} in the spoilt copy"

# -------------------- the best checkpoint of a run

BY_CHANCE = "{}: {}, next {} with {}, which may be chance"
BETTER = "{}: {}, next {} with {}"
AS_GOOD = "{}: as good as {}, and earlier"
