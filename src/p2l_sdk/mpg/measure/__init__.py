"""Asking a real endpoint questions, timing and grading what it answers.

Each file knows those above it:

    questions     a table of questions and their right answers
    endpoint      one timed query to an OpenAI-compatible endpoint
    grading       an answer -> a score
    journal       a file of JSON lines from which an interrupted run resumes
    answers       the file of all answers, such a journal
    measurement   the answers -> accuracy, speed and cost of the LLM
    run           all of it, under a load: `measure`

Nothing else in `mpg` knows this folder: `p2l mpg report` reads the answers as it reads any results.
"""
