"""What is measured, whatever the paper: attention, poses, exact tests."""
