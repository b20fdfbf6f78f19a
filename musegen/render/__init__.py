"""What a person sees and hears: pictures, audio, files."""
