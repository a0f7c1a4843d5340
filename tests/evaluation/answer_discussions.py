"""Replies that restate their problem or discuss it after the answer: (gold, text, verdict), by rule and kind.

Instruct models introduce a problem, repeat it under a heading and solve it then; and after their answer they
say of other options that they are true, of other cases what the answer would be, and how it can be checked.
"""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

RIGHT, WRONG, NONE = "right", "wrong", "none"
EGGS = "**Problem:** Janet's ducks lay 16 eggs per day. She uses 7 and sells the rest at $2 each."
SOLVE = "**Problem:** Solve $2x=4$."

NUMBER = {
    "the last sentence": [
        ("30", "It takes 30 minutes for her 3 rounds.", RIGHT),
        ("18", "She has 16 - 7 = 9 eggs, so she makes 18 dollars.", RIGHT),
        ("26", "Tom pays 26 dollars for his 4 tickets in total.", RIGHT),
        ("40", "The price drops from $50 to $40.", RIGHT),
        ("40", "The price is reduced from $50 to $40.", RIGHT),
        ("40", "It lasts from 30 to 40.", WRONG),
        ("1250", "So the total is \\$1{,}250.", RIGHT),
        ("1250", "\\[ 250 \\times 5 = 1{,}250 \\]\n\nSo the total is \\$1{,}250.", RIGHT),
        ("1250", "So the total is **1 250** dollars.", RIGHT),
        ("3", "So she needs **3** bolts for 2 chairs and 1 table.", RIGHT),
        ("18", "The **3 kids** get 6 each, so there are 18.", RIGHT),
        ("18", "**Total for 3 kids:** 18", RIGHT),
        ("21", "So there are 21 people.\n\n**Note:** If 3 more came, there would be 24.", RIGHT),
        ("18", "Janet makes $18 a day.\n\nExplanation: 16 - 3 - 4 = 9 eggs, and each costs $2.", RIGHT),
        ("18", "18\n\n**Reasoning:** The 9 eggs cost $2 each.", RIGHT),
        ("36", "Each pack holds 12 pens. There are 3.\n\nExplanation: 12 * 3 = 36.", RIGHT),
    ],
    "other cases behind the answer": [
        ("18", "The answer is 18. If she also sold the 3 eggs she eats, the answer would be 24.", RIGHT),
        ("26", "The answer is 26. However, if he had bought 5 tickets, the answer would be 32.5.", RIGHT),
        ("26", "The answer is 26. If he bought one more, then the answer would be 32.5.", RIGHT),
        ("21", "If 3 more came, the answer would be 24. But nobody came, so the answer is 21.", RIGHT),
        ("18", "Multiplying 9 by 2, the answer would be 18.", RIGHT),
        ("18", "If we multiply 9 by 2, the answer would be 18.", RIGHT),
        ("18", "\\boxed{18}\n\nIf she sold 3 more, the answer would be 24.", RIGHT),
        ("24", "\\boxed{18}\n\nIf she sold 3 more, the answer would be 24.", WRONG),
        ("18", "18 is the answer. 24 would be the answer if she also sold the 3 eggs.", RIGHT),
        ("18", "The answer would be 18 dollars.", RIGHT),
    ],
    "restated and further problems": [
        (
            "18",
            f"To find what Janet makes in 1 day, let's restate it.\n\n{EGGS}\n\n**Solution:** 9 * 2 = 18.\n\n\\boxed{{18}}",
            RIGHT,
        ),
        ("18", f"Here are the 3 steps.\n\n{EGGS}\n\n**Solution:** 9 * 2 = 18.\n\n**Answer:** 18", RIGHT),
        (
            "18",
            f"This problem involves 2 steps.\n\n{EGGS}\n\n**Solution:** 9 eggs are left. They sell for 18 dollars.",
            RIGHT,
        ),
        (
            "18",
            f"Certainly! I will solve it in 2 steps.\n\n{EGGS}\n\nShe has 16 - 7 = 9 eggs, so she makes 18 dollars.",
            RIGHT,
        ),
        (
            "18",
            f"1. **Restating the problem**\n\n{EGGS}\n\n2. **Solution**\n\n9 * 2 = 18\n\n**Final answer: 18**",
            RIGHT,
        ),
        (
            "18",
            "### Step 1: Understand the problem\n\n**Input:** 16 eggs, 7 used, $2 each.\n\n### Step 2: Compute\n\n16 - 7 = 9. The final answer is $\\boxed{18}$.",
            RIGHT,
        ),
        ("18", f"{EGGS}\n\n**Question:** How much does she make?\n\n**Answer:** 18 dollars", RIGHT),
        (
            "18",
            "**Given:** 16 eggs, 7 used, $2 each.\n\n**Question:** How much per day?\n\n**Solution:** She makes 18 dollars.",
            RIGHT,
        ),
        (
            "18",
            "Janet has 16 eggs and uses 7.\n\n**Question:** How much does she make at $2 each?\n\n**Solution:** 9 * 2 = \\boxed{18}.",
            RIGHT,
        ),
        (
            "18",
            "She makes $18 a day.\n\nProblem: Tom has 3 pens and buys 4.\n\nSolution: 3 + 4 = 7. The answer is 7.",
            RIGHT,
        ),
        (
            "64",
            "To buy 16 glasses, he needs to pay $64.\n\nQuestion: Tom has 3 pens and buys 4.\nAnswer: 7",
            RIGHT,
        ),
        (
            "77",
            "Let us now calculate what is left: 1500 - 1423 = 77 euros\n\nQuestion: Tom has 3 pens and buys 4.\nAnswer: 7",
            RIGHT,
        ),
        ("3", "We need 3 bolts.\n\nQuestion: Tom has 3 pens and buys 4.\nAnswer: 7", RIGHT),
        (
            "18",
            f"{EGGS}\n\n**Solution:** 9 * 2 = 18 dollars.\n\n**Problem:** Tom has 3 pens.\n\n**Solution:** He has 3 pens.",
            RIGHT,
        ),
        (
            "18",
            f"Let me restate it:\n\n{EGGS}\n\nThe answer is 18.\n\n**Problem:** Tom has 3 pens and buys 4.\n\nThe answer is 7.",
            RIGHT,
        ),
        (
            "18",
            f"Sure!\n\n{EGGS}\n\n\\boxed{{18}}\n\n**Problem 2:** Tom has 3 pens and buys 4.\n\n\\boxed{{7}}",
            RIGHT,
        ),
    ],
}

LETTER = {
    "options called true after the answer": [
        ("A", "The answer is (A) because only statement I is true.", RIGHT),
        ("C", "The answer is (C). Option A is true, but it does not explain this.", RIGHT),
        ("C", "The answer is (C). Option A is true.", RIGHT),
        ("A", "The answer is (C). Option A is true.", WRONG),
        ("C", "The answer is (C). A and B are both true, but incomplete.", RIGHT),
        ("C", "The correct answer is (C) A and B are both true.", RIGHT),
        (
            "C",
            "**Answer: C**\n\nExplanation: Option A is correct in general, but not here. Option B is false.",
            RIGHT,
        ),
        (
            "C",
            "\\boxed{C}\n\nOption A is true for ideal gases only. Option D is true as well, but irrelevant.",
            RIGHT,
        ),
        ("C", "### Final Answer: C\n\n---\n\n*Option A is true in some models.*", RIGHT),
        ("C", "<answer>C</answer> Option B is right only at night.", RIGHT),
        ("C", "The answer is C, although B seems correct at first.", RIGHT),
        ("C", "Option C is the best answer. Option A is true, but not the most relevant.", RIGHT),
        ("D", "The right answer is D because B's claim is true only in summer.", RIGHT),
        ("D", "The answer is (D), as both A and C are correct.", RIGHT),
    ],
    "true but rejected": [
        ("E", "Looking at each option, (E) seems right. (F) is true but vague.", RIGHT),
        ("C", "C is correct, but not A.", RIGHT),
        ("E", "**E. 25 m/s**\n\nOption F is correct for twice the time.", RIGHT),
        ("E", "E\n\nOption F is correct for twice the time.", RIGHT),
        ("B", "**A. Mitosis**\nThis is wrong.\n\n**B. Meiosis**\nOption B is correct.", RIGHT),
        ("B", "A. This is incorrect because it divides.\n\nOption B is correct.", RIGHT),
        ("C", "Option A is true, but it does not explain this. So I choose C.", RIGHT),
        ("C", "Option A is correct but incomplete. Therefore, the best choice is (C).", RIGHT),
        ("C", "Option C is correct. Option A is partially correct because it omits the cost.", RIGHT),
        ("D", "A is true. B is true. C is true. So all of them hold, which is option (D).", RIGHT),
        ("D", "D. Both A and B are correct.", RIGHT),
        ("D", "(D) Both A and B are true", RIGHT),
        ("B", "Both A and B are true", WRONG),
        ("C", "C is correct, but A is not.", RIGHT),
        ("C", "Option C is the best answer. Option A is only partially correct.", RIGHT),
        ("C", "The answer is C. None of A, B or D is correct.", RIGHT),
        ("C", "The answer is A. Wait, that is wrong: I forgot friction. Option C is correct.", RIGHT),
        ("C", "The answer is A... Actually, no. C is correct.", RIGHT),
    ],
    "comparisons and values": [
        ("C", "The value is 11.9 N, which is closest to option C.", RIGHT),
        ("C", "The value is 11.9 N, which is closest to (C).", RIGHT),
        ("C", "The computed value 11.9 matches option C (12 N).", RIGHT),
        ("C", "The computed value 11.9 matches option C (12 newtons).", RIGHT),
        ("D", "After checking, option D (19.6 J) is correct.", RIGHT),
        ("J", "The energy of 19.6 J is correct.", NONE),
        ("J", "The energy (19.6 J) is correct.", NONE),
        (
            "C",
            "- **A**: This is true but irrelevant.\n- **B**: This is false.\n- **C**: This is the correct answer.",
            RIGHT,
        ),
        ("C", "A) is true of mammals only.\nB) is false.\nC) is correct.\nD) is false.", RIGHT),
        ("D", "A is correct in that costs fall. Yet D is the best answer.", RIGHT),
        ("C", "Answer: C. Option A is the correct choice only for metals.", RIGHT),
        ("D", "The most suitable option is (D), while (B) is suitable for children.", RIGHT),
    ],
    "statements of the problem and names": [
        ("B", "I is true and II is false. The answer is (B).", RIGHT),
        ("B", "I is true, II is false. So the answer must be B.", RIGHT),
        ("B", "Only I is true, so (B).", RIGHT),
        ("B", "Statement I is correct but statement II is not. Hence, B.", RIGHT),
        ("I", "Statement I is correct.", NONE),
        ("I", "I is true and II is false.", NONE),
        ("B", "I believe the answer is B, as I would be right to say that it is heavier.", RIGHT),
        ("I", "(I) is the correct answer. Option A is true, but irrelevant.", RIGHT),
        ("I", "Option I is correct.", RIGHT),
        ("D", "Hepatitis B is the most likely diagnosis. This is option D.", RIGHT),
        ("B", "Hepatitis B is the most likely diagnosis.", NONE),
        ("D", "The answer is D. Vitamin B is the right choice for another patient.", RIGHT),
    ],
    "reasons against other options": [
        ("C", "The answer is (C). Option A is incorrect because it contradicts option B.", RIGHT),
        (
            "C",
            "The answer is (C).\n\n- Option A is too broad compared with option B.\n- Option B is too narrow.",
            RIGHT,
        ),
        ("C", "Option C is correct. Option A is wrong because it confuses the case with option D.", RIGHT),
        ("C", "The correct answer is (C). (A) would be the correct answer if the gas were ideal.", RIGHT),
        ("C", "The answer is C. If the gas were ideal, then A would be the correct answer.", RIGHT),
        ("C", "The answer is C. D would be correct only if the pressure were constant.", RIGHT),
        ("C", "The answer is C. B is the answer most students choose.", RIGHT),
        ("C", "The correct answer is C.\n\nOption A is the best-known option, but wrong.", RIGHT),
        ("C", "\\boxed{C}. Option A is the incorrect choice, since it uses half the height.", RIGHT),
        ("C", "Option C is the right answer. Option A is the wrong answer.", RIGHT),
        ("C", "Option C is the correct answer.\n\nOption A is the second best option.", RIGHT),
        ("B", "The answer I got is B.", RIGHT),
    ],
}

EXPRESSION = {
    "the last sentence": [
        ("2, 3", "Dividing yields $x=2$ or $x=3$.", RIGHT),
        ("12", "So there are **12 ways** to seat $4$ people.", RIGHT),
        ("5", "So **$f$ is even** and there are $5$ roots.", RIGHT),
        ("12", "The **number of ways** is $12$.", RIGHT),
        ("\\frac{3}{2}", "Dividing by $2$ yields $x=\\frac{3}{2}$, or $x = 1.5$.", RIGHT),
        ("2, 3", "Factoring yields $x=2$, or $x = 3$.", RIGHT),
        ("\\text{Monday}", "Thus, the answer is **Monday**, since $100 \\equiv 2 \\pmod 7$.", RIGHT),
        ("\\text{Evelyn}", "The answer is Evelyn because $5 > 3$.", RIGHT),
        ("4", "The answer is correct because $2+2=4$.", NONE),
        ("4", "So there are **4** positive divisors of $6$.", RIGHT),
        ("4", "$4$\n\nExplanation: $6 = 2 \\cdot 3$.", RIGHT),
    ],
    "restated and further problems": [
        ("2", f"To solve for $x$, we restate:\n\n{SOLVE}\n\n**Solution:** $\\boxed{{2}}$", RIGHT),
        ("2", f"To solve for $x$, we restate:\n\n{SOLVE}\n\n**Solution:** $x = 2$.", RIGHT),
        ("2", f"Absolutely!\n\n{SOLVE}\n\n**Solution:** Dividing by 2, $\\boxed{{2}}$", RIGHT),
        ("2", f"Certainly.\n\n{SOLVE}\n\nThe answer is $2$.", RIGHT),
        ("2", f"Let's solve $2x = 4$.\n\n{SOLVE}\n\n**Solution:** Dividing by 2 gives $x=2$.", RIGHT),
        ("2", f"We are given the equation $2x = 4$ and want $x$.\n\n{SOLVE}\n\n**Solution:** $x=2$.", RIGHT),
        ("2", f"This problem is about an equation in $x$.\n\n{SOLVE}\n\nSolution: $x = 2$", RIGHT),
        (
            "2",
            "**Given:** $2x = 4$\n\n**Problem:** Find $x$.\n\n**Solution:** Dividing by $2$ we get $x = \\boxed{2}$.",
            RIGHT,
        ),
        (
            "2",
            "## Step 1: Understand\n\n**Input:** The equation $2x=4$.\n\n## Step 2: Solve\n\n$x = \\boxed{2}$",
            RIGHT,
        ),
        ("2", f"{SOLVE}\n\n**Question:** What is $x$?\n\n$x = 2$", RIGHT),
        ("2", "We find $x = 2$.\n\nProblem: Solve $3x = 9$.\n\nSolution: We find $x = 3$.", RIGHT),
        ("2", "$x = 2$\n\nProblem: Solve $3x = 9$.\n\nSolution: The answer is $3$.", RIGHT),
        (
            "2",
            "Dividing by 2, $x = \\boxed{2}$.\n\n**Problem 2:** Solve $3x=9$.\n\n**Solution:** $x=\\boxed{3}$",
            RIGHT,
        ),
        (
            "2",
            f"{SOLVE}\n**Solution:** $x = 2$.\n\n**Problem:** Solve $3x=9$.\n**Solution:** $x = 3$.",
            RIGHT,
        ),
        ("2", f"{SOLVE}\n\n$x=\\boxed{{2}}$\n\n**Problem:** Solve $3x=9$.\n\n$x=\\boxed{{3}}$", RIGHT),
        (
            "2",
            f"Let me restate:\n\n{SOLVE}\n\n$x=\\boxed{{2}}$\n\n**Problem:** Solve $3x=9$.\n\n$x=\\boxed{{3}}$",
            RIGHT,
        ),
        (
            "\\text{Evelyn}",
            "Evelyn.\n\nProblem: Who is the slowest?\n\nSolution: The answer is Carla.",
            RIGHT,
        ),
    ],
}

DISCUSSIONS = {"number": NUMBER, "letter": LETTER, "expression": EXPRESSION}
