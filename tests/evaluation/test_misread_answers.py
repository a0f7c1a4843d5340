"""Replies that were misread, each kind beside similar replies that must be read as before."""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

import pytest

from tests.evaluation.test_answers import Pair, failing

RIGHT, WRONG, NONE = "right", "wrong", "none"
GIVENS = "1. Ducks lay 16 eggs per day.\n2. She eats 3.\n3. She bakes with 4."
APPLES = "Tom has 3 bags with 8 apples each. How many apples are there?"
LABELS = (
    "Question 2: ", "Question 2:\n", "**Question 2:** ", "## Question 2\n", "Question #2: ", "Q2: ", "Q2. ", "QUESTION: ", "### Question\n",
    "Example 2: ", "**Example 2**\n", "Problem 2\n", "## Problem 2\n", "Exercise 2\n", "Task 2: ", "Next question: ", "New question: ",
    "Another example: ", "### Practice Problem\n", "Follow-up Question 1: ", "Bonus question: ", "Similar problem: ", "## Your task: ",
    "user: ", "USER: ", "user\n", "<|user|>\n", "<|im_start|>user\n", "<｜User｜>", "<|start_header_id|>user<|end_header_id|>\n",
    "<start_of_turn>user\n", "[INST] ", "[Question]: ", "<question>", "问题：", "Now, solve the following problem: ", "Can you solve this problem? ",
)  # fmt: skip
FURTHER_QUESTION = "\n\nQuestion: A man has 4 cats. How many legs have they?\nThey have 16 legs."

MISREAD: dict[str, tuple[str, list[Pair]]] = {
    "ordinary words behind a number do not withdraw it": (
        "number",
        [
            ("18", "\\boxed{18}\n\nNote: The number of eggs she actually sells is 9. A common mistake is to forget the muffins, which would give 26.", RIGHT),
            ("30", "So he has to wait \\boxed{30} minutes.\n\nThis means that he has to wait 30 minutes. That is 10 minutes more than Ann.", RIGHT),
            ("12", "#### 12\n\nThis is the amount she actually pays; it is 3 dollars less than 15.", RIGHT),
            ("18", "\\boxed{18}\n\nShe is sorry for the error, which cost her 4 dollars.", RIGHT),
            ("18", "\\boxed{18}\n\nActually, that is 3 more than Ann has.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, is that right? 3 + 4 = 7 eggs are used. Yes, that is right, no error.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, let me re-read the problem. She bakes with 4 eggs. So it holds.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, did I make a mistake? 3 + 4 = 7 eggs are used. That checks out.", RIGHT),
        ],
    ),
    "a correction is read, whatever follows it": (
        "number",
        [
            ("27", "\\boxed{28}\n\nWait, I made a mistake. Let me correct it: 9 x 3 = 27, so she has 27 apples.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, I made a mistake. The correct total is 9 x 3 = 27.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, I made a mistake. She still has 27 apples.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, let me re-read the problem. She has 3 bags of 9 apples, so 9 x 3 = 27 apples.", RIGHT),
            ("27", "The answer is 28.\n\nSorry, I made an error earlier: 9 x 3 = 27. A good way to see it is 9 + 9 + 9 = 27.", RIGHT),
            ("27", "The answer is 28 - wait, no, that is wrong. She has 9 x 3 = 27 apples.", RIGHT),
            ("27", "The answer is 28. But wait, the price is wrong. It should be 27.", RIGHT),
            ("27", "The answer is 28. Hmm, I forgot the last bag. So she has 27.", RIGHT),
            ("28", "\\boxed{28}\n\nWait, I made a mistake. The correct total is 9 x 3 = 27.", WRONG),
        ],
    ),
    **{
        f"a verdict on something else withdraws no answer, rule {rule}": (
            rule,
            [
                ("18", "The total is \\boxed{18}. If we forget the eggs she eats, we get 21. This is incorrect since 3 are eaten.", RIGHT),
                ("18", "\\boxed{18}\n\nNote that 16 * 2 = 32 dollars. This is wrong, because she does not sell 7 eggs.", RIGHT),
                ("18", "\\boxed{18}\n\nIf she ate none, the answer is 32. That's wrong: she eats 3 eggs.", RIGHT),
                ("18", "The answer is 18.\n\nOthers add 3 first. That is incorrect, since 16 - 3 = 13.", RIGHT),
                ("18", "The answer is 18.\n\n(C) 16 eggs - This is wrong, she sells 9.", RIGHT),
                ("27", "The answer is 28. That is wrong: it is 27.", RIGHT),
                ("27", "The total is \\boxed{28} apples. But this is incorrect. The sum is 9 x 3 = 27.", RIGHT),
                ("27", "**Answer:**\n\n28\n\nThat's not right. 9 x 3 = 27.", RIGHT),
                ("27", "The answer is 28. I added 3 bags of 9. Wait, that is wrong: 9 x 3 = 27.", RIGHT),
                ("28", "The answer is 28. That is wrong: it is 27.", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    "a verdict on another option withdraws no letter": (
        "letter",
        [
            ("B", "\\boxed{B}\n\nC. budding - This is incorrect.\nD. fission - This is incorrect.", RIGHT),
            ("B", "The correct answer is B. meiosis.\n\nA. mitosis - This is incorrect.\nC. budding - This is wrong.", RIGHT),
            ("B", "The answer is B.\nC - This is incorrect.", RIGHT),
            ("B", "The answer is (B).\n\n- **Option C**: budding. This is wrong.\n- **Option D**: fission. This is wrong.", RIGHT),
            ("C", "The answer is B. That is wrong: it is C.", RIGHT),
            ("C", "The answer is B. meiosis. That is wrong: it is C.", RIGHT),
        ],
    ),
    "ordinary words behind a letter do not withdraw it": (
        "letter",
        [
            ("C", "The answer is (C).\n\nStudents actually often select (D), which is a mistake.", RIGHT),
            ("C", "The answer is (C).\n\nOption (A) is tempting, but the current actually decreases, so it is a mistake to choose (A).", RIGHT),
            ("D", "The answer is (C).\n\nWait, I made a mistake. The right choice is (D).", RIGHT),
            ("D", "The answer is (C). Actually, that is wrong: it is (D).", RIGHT),
        ],
    ),
    "a further question with any label ends the answer": (
        "number",
        [
            *(("18", f"She makes \\boxed{{18}} dollars.\n\n{label}{APPLES}\n\nAnswer: \\boxed{{24}}", RIGHT) for label in LABELS),
            *(("18", f"The answer is 18.\n\n{label}{APPLES}\nThe answer is 24.", RIGHT) for label in LABELS[::4]),
            ("18", f"She makes 18 dollars.\n\nQUESTION: {APPLES}\n3 * 8 = 24", RIGHT),
        ],
    ),
    "a label of a part of the reply ends no answer": (
        "number",
        [
            ("18", "Question 1: How many eggs are left?\nThe answer is 9.\n\nQuestion 2: How much does she make?\nThe answer is 18.", RIGHT),
            ("18", "Q1. How many eggs are left? \\boxed{9}\n\nQ2. How much does she make? \\boxed{18}", RIGHT),
            ("18", "### Task 1\nThe answer is 9.\n\n### Task 2\nThe answer is 18.", RIGHT),
            ("18", "First question: how many eggs? The answer is 9.\n\nNext question: how much? The answer is 18.", RIGHT),
            ("18", "## Problem\nHow much does she make?\n\n## Solution\n9 * 2 = 18. \\boxed{18}", RIGHT),
            ("18", "She sells 9 eggs.\n\nExample 2: 2 eggs make 4 dollars.\n\nShe makes 9 * 2 = 18 dollars.", RIGHT),
            ("18", "She sells 9 eggs.\n\nQuestion 2\nHow much does she make? 9 * 2 = 18", RIGHT),
            ("18", f"[INST] {APPLES} [/INST] The answer is 18.", RIGHT),
            ("18", "Example 2 shows the rule. The answer is 18.", RIGHT),
            ("18", "The answer to the first part is 9. Question 2 then is how much she makes: the answer is 18.", RIGHT),
        ],
    ),
    "a further question behind a letter": (
        "letter",
        [
            *(("D", f"The answer is (D).\n\n{label}Which is a noble gas?\nA. Neon\nB. Oxygen\nThe answer is (A).", RIGHT) for label in LABELS[::3]),
            ("C", "I choose C.\n\nUSER: Which is a noble gas?\nThe answer is (A).", RIGHT),
        ],
    ),
    "givens behind a heading answer nothing": (
        "number",
        [
            *(("18", f"{heading}\n{GIVENS}\n\n{label} How much does she make?\n\n16 - 3 - 4 = 9 eggs.\n9 * 2 = $18.\nThe answer is 18.", RIGHT) for heading in ("**Given:**", "**Facts:**", "Given information:", "Here is what we know:", "**Understanding the problem**", "Let's restate the problem.") for label in ("Question:", "**Question:**", "Problem:")),
            ("18", f"**Given:**\n{GIVENS}\n\n**Solution:**\nShe sells 9 eggs.\nShe makes 18 dollars.{FURTHER_QUESTION}", RIGHT),
            ("18", f"Let's restate the problem. Ducks lay 16 eggs. She sells 9 eggs, so she makes 18 dollars.{FURTHER_QUESTION}", RIGHT),
            ("18", f"**Given:**\n{GIVENS}\n16 - 7 = 9 and 9 * 2 = 18.{FURTHER_QUESTION}", RIGHT),
        ],
    ),
    "the text of an option in brackets": (
        "letter",
        [
            *((letter, text, RIGHT) for letter, text in (("B", "The answer is B (Mitosis)."), ("B", "The answer is **B** (Mitosis)."), ("B", "Answer: B (Mitosis)"), ("B", "The correct answer is B (12 J)."), ("B", "\\boxed{B (Mitosis)}"), ("B", "\\boxed{\\text{B (Mitosis)}}"), ("C", "The answer is C (42)."), ("C", "The answer is C (i.e., 42)."), ("C", "The answer is C ($42$)."), ("C", "\\boxed{C (42)}"), ("C", "The answer is C (42), since 6 x 7 = 42."))),
            ("F", "The answer is F (x) = 2x.", NONE),
            ("F", "The answer is F (x, y).", NONE),
            ("F", "The answer is F(x).", NONE),
            ("A", "The answer is a (positive) integer.", NONE),
            ("A", "A (small) error was made.", NONE),
        ],
    ),
    "letters of points, quantities and people in running text": (
        "letter",
        [
            ("B", "The lines intersect at point B.", NONE),
            ("B", "The particle moves from point A to point B.", NONE),
            ("C", "So the electric field is largest at point C.", NONE),
            ("B", "The vector points to B.", NONE),
            ("A", "The blood type of the child must be A.", NONE),
            ("C", "So the capacitance has to be C.", NONE),
            ("E", "The electric field is given by E.", NONE),
            ("D", "Hence the displacement is described by D.", NONE),
            ("B", "This is equal to B.", NONE),
            ("C", "This leads to C.", NONE),
            ("A", "We pick A as the origin.", NONE),
            ("A", "We choose A as a reference point.", NONE),
            ("A", "Let us mark A on the graph.", NONE),
            ("C", "So it must be C.", RIGHT),
            ("C", "Must be C.", RIGHT),
            ("C", "The blood type of the child must be (C).", RIGHT),
            ("C", "The electric field is given by option C.", RIGHT),
            ("C", "The vector points to the correct choice C.", RIGHT),
            ("C", "This leads to (C).", RIGHT),
            ("C", "That leaves C.", RIGHT),
            ("C", "So choose C.", RIGHT),
            ("C", "You should choose C.", RIGHT),
            ("C", "We pick C as the pressure rises.", RIGHT),
            ("C", "I choose C as the best answer.", RIGHT),
            ("C", "I choose C as my answer.", RIGHT),
            ("C", "The value of 3.2 corresponds to C.", RIGHT),
        ],
    ),
    "the text of the option behind its letter": (
        "letter",
        [
            ("C", "The most likely diagnosis is C. Appendicitis.", RIGHT),
            ("C", "The best description is **C. A decrease in both.**", RIGHT),
            ("B", "The best response is B. The auditor should wait.", RIGHT),
            ("A", "The correct job is A. Parking lot attendant. This is correct.", RIGHT),
            ("H", "The power needed is H. 0.14 hp.", RIGHT),
            ("H", "The author is most likely H. Giuseppe Mazzini.", RIGHT),
            ("G", "The coupon is called G. a bounce-back coupon.", RIGHT),
            ("H", "The view is closest to H. Giuseppe Mazzini.", RIGHT),
            ("J", "So the price is (J) 102.95.", RIGHT),
            ("G", 'The vague phrase is (G) "nearly as important".', RIGHT),
            ("F", "The passage is best described as (F) using cause and effect.", RIGHT),
            ("E", "The electric field is E. It points away from the charge.", NONE),
            ("F", "The force is F. The mass is m.", NONE),
            ("F", "The force is F. Newton's law gives F = ma.", NONE),
            ("E", "The cause is E. coli.", NONE),
            ("A", "The tempting value is (A) 12.5.", NONE),
            ("A", "A common distractor is A. Parking lot attendant.", NONE),
            ("A", "The first phase is (A) mitosis and the second is (B) meiosis.", NONE),
            ("A", "The first is (A) mitosis, not (B) meiosis.", NONE),
            ("D", "The region is D. We integrate over it.", NONE),
        ],
    ),
    "a letter in brackets at the end of the last sentence": (
        "letter",
        [
            ("E", "The minimum retail price is $4.67 (E).", RIGHT),
            ("A", "The exit area is 0.0019 ft^2 (A).", RIGHT),
            ("A", "The exit area is 0.0019 ft$^2$ **(A)**. I hope this helps.", RIGHT),
            ("E", "The wire is at 420°F [E].", RIGHT),
            ("B", "They should use more experienced members (B).", RIGHT),
            ("H", "P = 0.14 hp. (H)", RIGHT),
            ("H", "P = 0.14 hp. Option H.", RIGHT),
            ("G", "Singer leaves the phrase (option G) vague.", RIGHT),
            ("A", "\\boxed{25,000 \\text{ ergs (A)}}", RIGHT),
            ("C", "This is the capacitance (C).", NONE),
            ("A", "The current is 5 amperes (A).", NONE),
            ("I", "It depends on the current (I).", NONE),
            ("B", "So there is a magnetic field (B).", NONE),
            ("A", "This is shown in figure (A).", NONE),
            ("A", "This rules out the first value (A).", NONE),
            ("B", "The first value is 3 (A), the second one is 4 (B).", NONE),
            ("A", "So we need P(A).", NONE),
            ("A", "\\boxed{P(A)}", NONE),
            ("A", "\\boxed{5 \\text{ amperes (A)}}", NONE),
        ],
    ),
    "a letter in one bracket with its option's text": (
        "letter",
        [
            ("D", "The answer is (D. as they begin to recover).", RIGHT),
            ("D", "**The answer is (D: as they begin to recover)**", RIGHT),
            ("D", "The answer is (D - as they begin to recover).", RIGHT),
            ("D", "The answer is [D. as they begin to recover].", RIGHT),
            ("D", "The correct answer is 'D. as they begin to recover'.", RIGHT),
            ("D", "The answer is (D.).", RIGHT),
            ("D", "The answer is (D", RIGHT),
            ("D", "\\boxed{(D. as they begin to recover)}", RIGHT),
            ("D", "\\boxed{\\text{(D. as they begin to recover)}}", RIGHT),
            ("A", "The answer is (A - B).", NONE),
            ("A", "The answer is (A: 3, B: 4).", NONE),
            ("E", "The answer is (E. coli).", NONE),
            ("J", "The answer is (J. S. Bach).", NONE),
            ("A", "The answer is (A B).", NONE),
        ],
    ),
    "a dash between a letter and its option's text": (
        "letter",
        [
            ("A", "The answer is A - 25,000 ergs.", RIGHT),
            ("E", "The answer is E – 420°F.", RIGHT),
            ("C", "The answer is C — 25 J.", RIGHT),
            ("B", "The answer is B - a kinesis is undirected.", RIGHT),
            ("B", "\\boxed{B - 25 \\text{ ergs}}", RIGHT),
            ("A", "The answer is A - 2.", NONE),
            ("A", "The answer is A - 2x.", NONE),
            ("A", "The answer is A-2.", NONE),
            ("A", "The answer is A - b.", NONE),
            ("A", "The answer is A - a.", NONE),
        ],
    ),
    "a box without backslash, an arrow, a phrase behind another": (
        "letter",
        [
            ("D", "boxed{D}", RIGHT),
            ("D", "So we get $boxed{(D)}$ as the vapour condenses.", RIGHT),
            ("D", "unboxed{D}", NONE),
            ("H", "P ≈ 0.14 hp ⇒ H.", RIGHT),
            ("H", "This leads to 0.14 hp → H", RIGHT),
            ("C", "2A + 3B → C", NONE),
            ("C", "The reaction is 2 A => C.", NONE),
            ("B", "So, the correct response is B: Use more experienced members.", RIGHT),
            ("B", "Therefore, the best course is (B) to wait.", RIGHT),
            ("B", "Therefore the correct choice would be B.", RIGHT),
        ],
    ),
    "another case, or the opinion of others": (
        "letter",
        [
            ("B", "If the interest were simple, the answer would be B.", NONE),
            ("E", "If the object were at rest, I would choose E.", NONE),
            ("E", "If I had to guess, I would say E.", RIGHT),
            ("E", "If I had to guess, the answer would be E.", RIGHT),
            ("D", "The truth value of A → D is true when D is true.", NONE),
            ("C", "Many students think that C is the correct answer.", NONE),
            ("B", "Some might say the answer is B.", NONE),
            ("B", "Some might say the answer is A, but it is B.", RIGHT),
            ("E", "It is a mistake to think that E is the right answer.", NONE),
            ("E", "Thus, we can confirm that (E) is the right answer.", RIGHT),
            ("D", "(D) cannot be the answer since it has no solution.", NONE),
            ("G", "G is hardly the right answer.", NONE),
            ("E", "Based on this, I'm confident that E is the correct option.", RIGHT),
            ("G", "This indicates that (G) is the correct option.", RIGHT),
            ("A", "(A) is true, but it does not answer the question.", NONE),
            ("A", "(A) is true.", RIGHT),
        ],
    ),
    "one of several letters that are called correct": (
        "letter",
        [
            ("C", "The statements A, B, and C are true.", WRONG),
            ("D", "A, B, and C are all true statements, therefore the exception is D.", RIGHT),
            ("B", "The value of B is closest to 10.", NONE),
            ("B", "Hence the statement in B is correct.", RIGHT),
            ("C", "which makes (C) correct.", RIGHT),
            ("D", "which makes D the best answer.", RIGHT),
            ("B", "which makes B stronger.", NONE),
            ("C", "Only C makes sense here.", RIGHT),
        ],
    ),
    "a list that judges every option": (
        "letter",
        [
            ("C", "1. A: False\n2. B: False\n3. C: True\n4. D: False", RIGHT),
            ("B", "**A. Mitosis** - This is incorrect because the cells are identical.\n\n**B. Meiosis** - This is correct because it halves the number.\n\n**C. Fission** - This is incorrect because it occurs in bacteria.", RIGHT),
            ("C", "A. Mitosis: No.\nB. Fission: No.\nC. Meiosis: Yes, this yields gametes.\nD. Budding: No.", RIGHT),
            ("B", "A. mitosis: Incorrect.\nB. meiosis: This is the right option.\nC. budding: Incorrect.", RIGHT),
            ("B", "A. mitosis: Incorrect.\nB. meiosis: This is the correct choice because it halves the number.\nC. budding: Incorrect.", RIGHT),
            ("B", "(A) mitosis: incorrect\n(B) meiosis: the correct answer\n(C) budding: incorrect", RIGHT),
            ("B", "A. mitosis - This is incorrect.\nB. meiosis - This is the correct answer.\nC. budding - This is incorrect.\nD. fission - This is incorrect.", RIGHT),
            ("B", "A. mitosis. This is wrong.\nB. meiosis. This is the best one.\nC. budding. This is not the correct answer.", RIGHT),
            ("B", "- A: no\n- B: yes, this is the correct answer\n- C: no", RIGHT),
            ("D", "D. 12 m/s - This is wrong.", NONE),
            ("D", "D. 12 m/s: not correct", NONE),
            ("D", "D. 12 m/s - This is the correct answer.", RIGHT),
            ("A", "A. Wrong, not wrong", RIGHT),
            ("B", "B. Incorrect", RIGHT),
            ("D", "D. No change", RIGHT),
            ("B", "A. The left ventricle\nB. The right ventricle\nC. The left atrium", NONE),
            ("B", "A. Good practices\nB. Best practices\nC. Bad practices", NONE),
            ("A", "A. Mitosis: Yes.\nB. Fission: Yes.\nC. Meiosis: No.", NONE),
            ("A", "A. Tests: true positives.\nB. Tests: false positives.\nC. Tests: false negatives.", NONE),
        ],
    ),
    "letters of names, marks and other languages": (
        "letter",
        [
            ("E", "The answer is E. E. coli.", RIGHT),
            ("C", "The answer is C. C. difficile infection.", RIGHT),
            ("G", "The answer is G. E. Moore.", NONE),
            ("A", "The answer is a.m. peak traffic.", NONE),
            ("C", "➡️ C", RIGHT),
            ("G", "Correct option - G", RIGHT),
            ("G", "This value is closest to the value in option G.", RIGHT),
            ("B", "That gives us option B.", RIGHT),
            ("I", "Statement I: True\nStatement II: False", NONE),
            ("I", "I. The first is true.\nII. The second is false.", NONE),
            ("I", "I. I and II only", RIGHT),
            ("C", "It is -C.", NONE),
            ("A", "La risposta corretta è A.", RIGHT),
            ("C", "La respuesta correcta es la C.", RIGHT),
            ("C", "因此，选择C。", RIGHT),
            ("D", "所以,我们选择D。", RIGHT),
            ("B", "因此,正确的选项是B。", RIGHT),
        ],
    ),
    "the pronoun I behind a letter": (
        "letter",
        [
            ("C", "The answer is (C), I believe.", RIGHT),
            ("C", "The answer is C, I think.", RIGHT),
            ("C", "\\boxed{C}, and I am sure.", RIGHT),
            ("C", "The answer is (C) and I hope this helps.", RIGHT),
            ("C", "The answer is (C), I.", WRONG),
            ("C", "The answer is C and I, because both rise.", WRONG),
            ("C", "The answer is C or I because both rise.", WRONG),
            ("I", "The answer is (I), I believe.", RIGHT),
        ],
    ),
    **{
        f"another case behind a box, rule {rule}": (
            rule,
            [
                ("3", "The final answer is: $\\boxed{3}$. For 2 robes the answer is 6.", RIGHT),
                ("12", "The total is \\boxed{12}.\n\nIf there were 2 boxes, the answer is 8.", RIGHT),
                ("12", "The sum is $\\boxed{12}$. For $n=1$ the answer is $1$, and for $n=2$ the answer is $3$.", RIGHT),
                ("12", "\\boxed{12}\n\nWhen she has 2 boxes, the answer is 8.", RIGHT),
                ("12", "\\boxed{12}\n\nA common wrong answer is 8.", RIGHT),
                ("13", "\\boxed{12}\n\nSo the answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\nTherefore, in total, the correct answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\nI forgot one. **Final answer:** 13", RIGHT),
                ("13", "\\boxed{12}\n\nWe conclude that the answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\n### Final answer\n\n13", RIGHT),
            ],
        )
        for rule in ("number", "expression", "integer")
    },
    **{
        f"a label before the number in a box, rule {rule}": (
            rule,
            [
                ("24", "\\boxed{\\text{Total cost: } \\$24}", RIGHT),
                ("24", "\\boxed{\\text{Profit: }24}", RIGHT),
                ("24", "\\boxed{\\text{Time: } 24 \\text{ minutes}}", RIGHT),
                ("24", "\\boxed{Total: 24}", RIGHT),
                ("24", "\\boxed{\\text{Total}: 24}", RIGHT),
                ("24", "\\boxed{2:24}", WRONG),
                ("24", "\\boxed{A:24}", WRONG),
                ("24", "\\boxed{\\text{Not: } 24}", WRONG),
                ("24", "\\boxed{\\text{Ratio: } 24:12}", WRONG),
                ("24", "\\boxed{\\text{Ann: } 24, \\text{ Bob: } 12}", WRONG),
                ("12", "\\boxed{\\text{Ann: } 24, \\text{ Bob: } 12}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    **{
        f"alternatives of equal value, rule {rule}": (
            rule,
            [
                ("3/4", "\\boxed{\\frac34} or \\boxed{0.75}", RIGHT),
                ("18", "\\boxed{18} or \\boxed{\\$18}", RIGHT),
                ("3/4", "\\boxed{\\frac{3}{4} \\text{ or } 0.75}", RIGHT),
                ("18", "\\boxed{18} or \\boxed{19}", WRONG),
                ("19", "\\boxed{18} or \\boxed{19}", WRONG),
                ("19", "\\boxed{18 \\text{ or } 19}", WRONG),
                ("3/4", "\\boxed{\\frac{3}{4} \\text{ or } 0.8 \\text{ or } 0.75}", WRONG),
                ("18", "\\boxed{18}, \\boxed{18.0}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    **{
        f"raised ordinal endings, rule {rule}": (
            rule,
            [
                ("13", "\\boxed{13^{\\text{th}}}", RIGHT),
                ("13", "\\boxed{13^\\text{th}}", RIGHT),
                ("13", "\\boxed{13^{th}}", RIGHT),
                ("3", "\\boxed{3^{\\text{rd}}}", RIGHT),
                ("2", "\\boxed{2^{\\text{nd}}}", RIGHT),
                ("21", "\\boxed{21^{st}}", RIGHT),
                ("2", "\\boxed{2^{nd}}", WRONG),
                ("13", "\\boxed{13^{t}}", WRONG),
                ("12", "\\boxed{13^{\\text{th}}}", WRONG),
                ("13", "\\boxed{13^{2}}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    "a decimal number before the letter": (
        "letter",
        [
            ("B", "The closest answer to 12.5 J is B.", RIGHT),
            ("B", "The closest option to our computed value of 12.5 is (B) 12.4.", RIGHT),
            ("B", "Among the options, the closest to 12.5 kJ is (B) 12.4 kJ.", RIGHT),
            ("B", "The answer is close to 12.5. Option (B) is 12.4.", NONE),
            ("B", "The closest answer to 12.5 J is not B.", NONE),
            ("B", "The answer differs from 12. 5 J is B.", NONE),
        ],
    ),
    "an explanation behind a derived result": (
        "number",
        [
            *(("18", f"Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18 every day.\n\n{heading} She starts with 16 and uses 7.", RIGHT) for heading in ("**Explanation:**", "Explanation:", "### Breakdown:\n", "**Key takeaways:**", "Here's the reasoning:")),
            ("18", "She sells 9 eggs.\nSo she makes $18.\n\n**Breakdown:**\n- 16 eggs a day\n- 7 used", RIGHT),
            ("18", "She has 16 eggs.\nShe sells 16 - 7 = 9 eggs.\n\n**Explanation:** 7 are used.\nShe makes 9 * 2 = $18.", RIGHT),
            ("18", "She sells 16 - 7 = 9 eggs.\n\n**Breakdown:** Each costs $2.\nTherefore she makes $18.", RIGHT),
            ("9", "She has 16 eggs.\nShe sells 16 - 7 = 9 eggs.\n\n**Explanation:** 7 are used.\nShe makes 9 * 2 = $18.", WRONG),
            ("18", "She has 16 eggs.\n\n**Breakdown:** She uses 7 of them and makes $18.", RIGHT),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISREAD)
def test_misread_answers(kind: str) -> None:
    rule, pairs = MISREAD[kind]
    assert not failing(rule, pairs)
