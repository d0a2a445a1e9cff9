"""What tests share: servers, models and files to try things with."""
