"""Regular expressions for numbers in phrases: units, lists, ranges, explanations, restatements."""

from __future__ import annotations

import re

from s2t_eval.evaluation.grading.extraction.statements import PAST
from s2t_eval.evaluation.grading.numbers.parsing import CURRENCY, MULTIPLES

STRIPPED_CHARACTERS = " \t\r\n*_`\"',;:"
EQUALS_SIGN = re.compile(r"(?<![<>!\\])=(?!=)|\\approx|≈|\\simeq|\\Rightarrow|\\implies|⇒")
STYLE_COMMAND = re.compile(
    r"\\(?:boxed|fbox|textbf|textit|mathbf|mathrm|mathit|mathsf|bm|boldsymbol|underline|text|mbox)\s*(?=\{)"
)
COLOUR_COMMAND = re.compile(r"\\(?:textcolor|color|colorbox)\s*\{[^{}]*\}")
UNIT = r"\{\s*(?:\\(?:text|mathrm)\s*\{)?[A-Za-z ]+\}?\s*\}"
UNIT_FRACTION = re.compile(rf"\\[dtc]?frac\s*{UNIT}\s*{UNIT}")
DISPLAY_MARKUP = re.compile(
    r"\\[\[\]()]|\$\$|(?<!\\)\$(?=[\s.,;)]|$)|\\(?:displaystyle|large|Large|checkmark|blacksquare|square)\b"
)
CLOCK = re.compile(
    r"(?<![\w.:])([01]?\d|2[0-4]):00(?![\d:])(?=\s*(?:[ap]\.?\s?m\b|$|[.,;!?)\"'*]|\\|\s[a-z]|o))", re.I
)
RATIO_OR_TIME = re.compile(r"(?<![\w.])\d[\d.,]*(?::|\s:\s?)\d[\d.,:]*")
LETTER_UNITS = set("mgshLlNJWVAKCFMTkBbax")
WORDS_ONLY = re.compile(r"[A-Za-z\s.,;!?'’\"%°()/*-]*")
ALTERNATIVE = re.compile(r"\s*(?:\{\s*or\s*\}|\bor\b)\s*")
LABEL = re.compile(r"\s*(?!(?i:not|no)\b)[A-Za-z][A-Za-z\s'’-]{2,60}:[\s$]*")
"""Words before the number in a box: `Total cost: 24`; a single letter would be a point or a ratio."""
JOINER = re.compile(
    r"(?:[\s$)]*(?:[a-z%°]+\s+){0,2}[\s$]*)(?:,\s*)?(?:or|and|to|till|until|through|&|-|/|±|\\pm|\+)\s*(?:[a-z]+\s+)?[$]?\s*",
    re.I,
)
OPERATOR = re.compile(r"\d\s*[-+*/^×÷]\s*[\d(]")
LIST_SEPARATOR = re.compile(r"[\s$]*[,;][\s$]*(?:(?:or|and)\s+)?[$]?")
PRICE = re.compile(
    rf"{CURRENCY}\s?(\d[\d,]*(?:\.\d+)?(?:[\s-]{{1,3}}(?:{'|'.join(MULTIPLES)})\b)?)(?![\d,.]*\d|\s*\\[dtc]?frac)"
)
"""A price; a dollar sign before `2\\frac{1}{2}` opens a formula."""
NEXT_NAME = re.compile(r"\d\W*(?:\\text\W*)?(?:or|and|[,;])\W*\\?[A-Za-z]\w{0,3}\W*$")
"""The start of a second equation: `x = 18 \\text{ or } x = 20`."""
NEXT_NAME_IN_BOX = re.compile(rf"{NEXT_NAME.pattern}|[,;]\W*\\?[A-Za-z]\w{{0,3}}\W*$")
FORMULA_BETWEEN = re.compile(r"\s*\(?\s*[A-Za-z]\s*(?:[-+*/^×÷]\s*\(?\s*\d|(?=[-+]))")
"""A symbol with an operator behind a number and before the next one: `10k + 3`, `10(k + 1)`, `2n - 1`."""
DIFFERENCE = re.compile(r"\s*-\s*[A-Za-z]\s*")
"""The rest of `10 - x`, which is no unit."""
PURPOSE = re.compile(
    r"""(?<=[a-z])(?<!\bneed)(?<!\bneeds)(?<!\bneeded)(?<!\bhas)(?<!\bhad)(?<!\bhave)(?<!\bhaving)(?<!\bable)(?<!\bgoing)
    (?<!\bwant)(?<!\bwants)(?<!\bwanted)(?<!\bought)(?<!\bgets)(?<!\bplans)(?<!\bdecides)(?<!\bdecided)(?<!\brequired)(?<!\bmanages)
    (?<!\bmanaged)\s+to\s+(?:walk|run|read|make|get|reach|finish|complete|cover|travel|drive|ride|buy|pay|save|eat|fill|build
    |paint|write|fly|swim|cook|bake|clean|cut|climb|earn|sell|feed|share|produce|type|watch|do|go|have|be)\b
    |\b(?:minutes?|hours?|days?|weeks?|months?|seconds?|years?)\s+to\s+(?!be\b)[a-z]{3,}
    |,\s+\d+\s+of\s+(?:which|whom|them|these|those)\b|,?\s+(?:having|including|with\s+\d+\s+of)\b|,\s+with\s+(?=\$?\d)
    |(?<=\d)(?:\s+(?!(?:and|ends?|starts?|begins?)\b)[a-z]+){0,2}\s+with\s+\$?\d+\s+(?:[a-z]+\s+)?(?:left|remaining)\b""",
    re.IGNORECASE | re.VERBOSE,
)
PART_OF_WHOLE = re.compile(
    r"(?:(?<=[\w%)])\s+out\s+of\s+(?:(?:a\s+total\s+of|the|all|every|those|these)\s+)?|(?<=\d)\s+of\s+(?:the|all|those|these|her|his|their)\s+(?:[a-z]+['’]s\s+)?)\$?\d[\d,]*(?:\.\d+)?(?![\d/.]*\d)"
    r"|(?<=[a-z])\s+(?:in|on|over|within|from)\s+(?:the\s+(?:interval|range)\s+)?\$?[\[(]\s*-?\d[\d.]*\s*,\s*-?\d[\d.]*\s*[\])]\$?",
    re.I,
)
"""The whole that the preceding number refers to: `5 out of 12`, `25 solutions in [0, 100]`."""
FURTHER_CLAUSE = re.compile(
    r"\b(?:and|but)\s+(?:the|its|this|that|his|her|their|our)\s+[^.;=]*\b(?:is|are|was|were)\s+[^.;=\d]{0,20}\d",
    re.I,
)
"""A clause behind an equation that states another number: `k = 2024 and the remainder is 24`."""
PRICE_OF_ITEMS = re.compile(
    r"(?P<first>\b(?:dollars?|cents?|euros?)\s+for\s+\d+(?:\s+[a-z]+){1,2}?)"
    r"(?:(?:,|,?\s+and)\s+\d+(?:\s+[a-z]+){1,2}?)+\W*$",
    re.I,
)
"""A price of several items: `42 dollars for 6 books and 4 pens`."""
COMPOUND_WORD = re.compile(r"-[a-z]{3,}", re.I)
"""The rest of a compound word that begins with a number: `5 12-packs`."""
RELATIVE_CLAUSE = re.compile(r",\s*which\b|;\s*[a-z]", re.I)
BREAKDOWN = re.compile(
    r"(?<=[a-z*)]):\s+\$?\d[^:=]*\b(?:and|plus|\+)\s[^:=]*\d[^:=]*$"
    r"|(?<=[a-z*)]):\s+(?:[a-z]+\s+){0,3}\$?\d(?:(?!\b(?:so|total|is|are|makes?|gives?|thus|hence|leaves?|leaving)\b)[^:=])*,(?:(?!\b(?:so|total|is|are|makes?|gives?|thus|hence|leaves?|leaving)\b)[^:=])*\d[^:=]*$",
    re.I,
)
"""A breakdown after a total: `3 bolts are needed: 2 blue and 1 white`."""
RESTATEMENT = re.compile(
    r"(?:[,;]?\s*(?:\bor|\bi\.e\.,?|\bthat\s+is,?|\bwhich\s+is|=|≈)\s+)\d+\s+(?:days?|hours?|minutes?|feet|foot|dollars?|pounds?|weeks?|years?)"
    r"(?:,?\s+and\s+|,?\s+)\d+\s+(?:hours?|minutes?|seconds?|inch(?:es)?|cents?|ounces?|days?|months?)(?=\W*$)",
    re.I,
)
"""A measure repeated in two units: `160 minutes, or 2 hours and 40 minutes`."""
REPETITION = re.compile(
    r"(?:in\s+(?:hours|minutes|feet|pounds)[^,]{0,20},\s*)?(?:so,?\s+)?(?:that|this|it|which)(?:['’]s|\s+(?:is|equals|means|would\s+be|can\s+be\s+written\s+as))\s+(?:the\s+same\s+as\s+|equal\s+to\s+|equivalent\s+to\s+|also\s+)*"
    r"\d+\s+(?:days?|hours?|feet|foot|pounds?|weeks?|years?)(?:,?\s+and\s+|,?\s+)\d+\s+(?:hours?|minutes?|seconds?|inch(?:es)?|ounces?|days?|months?)\W*$",
    re.I,
)
"""A sentence that repeats a measure in two units: `In hours, that is 2 hours and 40 minutes`."""
CONVERSION = re.compile(
    r"\d+\s+(?:days?|hours?|feet|foot|pounds?|weeks?|years?)(?:,?\s+and\s+|,?\s+)\d+\s+(?:hours?|minutes?|seconds?|inch(?:es)?|ounces?|days?|months?)"
    r"\s*(?:,?\s*\b(?:or|which\s+is|is|equals|i\.e\.,?)|=)\s*(?=\d[\d,]*\s+[a-z]+\W*$)",
    re.I,
)
"""A measure in two units that is converted to one: `1 hour and 20 minutes is 80 minutes`."""
REFERENCE_TO_GIVEN = re.compile(
    r"\b(?:(?:after|over|during|in|for|from|within|with|per|at|on|by|of)\s+(?:the|those|these|all|his|her|its|their)\s+(?:(?:first|last|next|remaining|other|same|whole)\s+)?|(?:over|across)\s+)$",
    re.I,
)
"""Text before a number that was given in the problem: `45 miles at the end of the 4 hours`."""
THAT_IS = re.compile(
    r"(?:\bi\.e\.,?|\bthat\s+is,|,\s*which\s+is(?:\s+equal\s+to)?)\s*"
    r"(?P<value>[-+]?\$?\d[\d.,]*(?!\s+(?:percent|times|[a-z]{2,7}er|more|less)\b)(?:\s[a-z]+){0,4})\W*$",
    re.I,
)
"""A result behind several numbers: `4 apples and 6 pears, i.e. 10 pieces of fruit`."""
AFTER_ACTION = re.compile(
    r"\b(?:after|by|from)\s+\w+ing\s+(?:(?:the|all|her|his|their|those|these|remaining)\s+)*$", re.I
)
NO_RESULT = r"(?:(?!\b(?:has|have|had|will|would|gets?|left|remains?|leaves?)\b)[^,;:=])*"
CIRCUMSTANCE = re.compile(
    rf"\s+(?:after|for|from)\s+\w+ing\b{NO_RESULT}$|\s+after\s+(?:[a-z'’]+\s+){{1,3}}?(?:{PAST})\b{NO_RESULT}$"
    r"|(?<=\bleft)(?:\s+over)?\s+(?:after|from|of)\s+[^,;:=]*$"
    r"|(?<=[a-z])\s+before\s+(?=[a-z])(?:(?!\b(?:and|but|so|after|now|left|remain\w*)\b)[^,;:=])*$"
    r"|(?:(?<=\d)|(?<=illion)|(?<=thousand))\s+(?:years\s+old\s+)?in\s+\d+\s+(?:more\s+)?years?\W*$"
    rf"|(?<=[a-z\d])(?<!\band)(?<!\bor)(?<!\bthat)(?<!\bbut)\s+if\s+{NO_RESULT}$"
    r"|(?<=\d)\s+(?:[a-z]+\s+){0,2}?at\s+(?:a\s+(?:rate|speed|cost|price|pace)\s+of\s+)?\$?\d[\d.,]*\s*(?:(?:[a-z]+\s+)?(?:per|an?|each|/)\s*[a-z]+|each|apiece)\W*$"
    r"|(?<=[\d\w])\s+(?:after|with|including)\s+(?:an?|the|its|her|his)\s+\$?\d[\d.,]*\s*(?:%|percent)\s+[a-z]+\W*$"
    r"|(?<=\d)\s+(?:[a-z]+\s+){0,2}?(?:more|less|fewer|[a-z]{2,7}er)\s+(?:[a-z]+\s+){0,2}?than\s+[^,;:=\d]*(?:,\s+who\s+[a-z]+\s+)?\$?\d[\d,.]*(?:\s+[a-z]+){0,2}\W*$"
    r"|(?<=[\d\w]),?\s+(?:down\s+from|compared\s+(?:to|with)|versus|consisting\s+of|made\s+up\s+of)\s+[^;:=]*$"
    r"|(?<=\w),\s+(?:each\s+[a-z]+ing|assuming)\s+[^;:=]*$"
    r"|(?<=\w),\s+the\s+(?:average|mean|sum|product|difference)\s+(?:of|between)\s+(?:(?!\b(?:is|are)\b)[^;:=])*$"
    r"|(?<=\w),\s+\$?\d[\d.,]*\s+(?:[a-z]+\s+)?(?:more|less|fewer|[a-z]{2,7}er)\s+(?:[a-z]+\s+)?than\b[^;:=]*$"
    r"|(?<=[a-z])\s+of\s+\d+\s+(?:[a-z]+\s+){1,3}each\W*$"
    r"|(?<=\w)\s+\([^()\d]*\d+[^()\d]*(?:\band\b|\+|,)[^()\d]*\d[^()]*\)\W*$",
    re.I,
)
"""The end of a sentence that repeats what was given: `10 days at 5 pages per day`, `5 more than 10`."""
ONLY_DURATION = re.compile(r"\D*\bfor\s+\d[\d.,]*")
"""A sentence whose only other number is a duration: `He drives for 2 hours at 50 km per hour`."""
RANGE_START = re.compile(r"\b(?:between|from)\s*$", re.I)
PRECISION = re.compile(
    r"[\s,(]*\b(?:when\s+)?(?:rounded|to|correct\s+to)\s+(?:off\s+)?(?:to\s+)?\d+\s+(?:decimal|significant)\s+(?:places?|digits?|figures?)\)?",
    re.I,
)
TOTALLED = re.compile(
    r"(?<=\d)\s+(?:[a-z]+\s+){0,3}?(?:in\s+total|altogether|in\s+all)\b(?P<rest>[^=]*)$", re.I
)
"""A total before its parts: `3 bolts in total, 2 of blue fiber and 1 of white fiber`."""
ROUNDED = re.compile(
    r"\bround(?:s|ed|ing)?\b(?:\s+(?:it|this|that|up|down|off|the\s+\w+|\d[\d.]*)){0,3}\s+(?:to|is)\s+(?:the\s+(?:nearest|next)\s+[a-z\s]{1,30}?[\s,:]\s*(?:(?:which\s+)?(?:is|gives|equals)\s+)?)?"
    r"(?=\$?\d)(?!\d+\s+(?:decimal|significant|places|digits))",
    re.I,
)
"""Text before the rounded value, which is the answer: `2.4, which rounds up to 3`."""
EARLIER_VALUE = re.compile(r"[^\d,;:=]{0,20}\bfrom\s*", re.I)
"""Text between two values in time, the later one first: `the price drops to 40 from 50`."""
CHANGE = re.compile(
    r"\b(?:drop|fall|fell|decreas|reduc|lower|increas|rais|rise|rose|grow|grew|go|went|chang|mov)[a-z]*\s+from\s*$",
    re.I,
)
"""Text before the first of two values in time: `the price drops from 50 to 40`."""
CONCLUSION = re.compile(
    r".*(?:[,;]\s*(?:and\s+)?(?:(?:so|thus|hence|therefore)\b(?!\s+(?:that|far|forth)\b|\s+on(?!\s+[a-z]))|which\s+means\b|meaning\b)"
    r"|[,;]\s*(?:and|but)\s+(?:since|because|as)\b[^,;]*,|\s→\s)(?P<value>.+)$",
    re.I | re.S,
)
"""The conclusion of a sentence: `She has 16 - 7 = 9 eggs, so she makes 18 dollars`."""
UNIT_FAMILIES = (
    {"hour", "hr", "h", "minute", "min", "second", "sec", "s", "day", "week", "month", "year"},
    {"foot", "feet", "ft", "inch", "inches", "in", "yard", "mile"},
    {"dollar", "cent"},
    {"pound", "lb", "ounce", "oz"},
    {"kilogram", "kg", "gram", "g"},
    {"meter", "m", "centimeter", "cm", "kilometer", "km", "millimeter", "mm"},
)
"""Units of the same dimension: "5 hours 30 minutes" is one measure, neither 5 nor 30."""
VERB = re.compile(
    r"""\b(?:gets?|has|have|had|makes?|made|needs?|costs?|sells?|sold|earns?|pays?|eats?|receives?|takes?|gives?|giving|spends?
    |buys?|bought|uses?|leaves?|left\s+with|contains?|weighs?|travels?|runs?|walks?|reads?|saves?|owns?|totals?
    |becomes?|means?|yields?|equals?|could|can|will|would)\b""",
    re.IGNORECASE | re.VERBOSE,
)
