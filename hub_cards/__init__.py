"""What is published beside models: templates of cards, and the handler of Inference Endpoints. Not imported."""
