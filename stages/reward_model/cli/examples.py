"""What score.py scores where nothing is given: a prompt, a good response and a bad one."""

EXAMPLES = [
    (
        "How to cook pasta?",
        "Boil water, add salt, cook the pasta for the time on the packet, drain it and toss it with your sauce.",
        "I don't know.",
    ),
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "France is a country in Europe with many cities.",
    ),
    (
        "Give me one tip for sleeping better.",
        "Go to bed and get up at the same time every day, also at weekends: your body clock needs the routine.",
        "sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep",
    ),
]
