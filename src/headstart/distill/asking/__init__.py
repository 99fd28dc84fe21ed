"""What teachers are asked at a step, of which samples, and when."""
